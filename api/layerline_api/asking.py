"""What commands that ask have in common: whom they ask, how they say what came back, and how they end.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from layerline import configuration
from layerline_api.settings import AskSettings
from layerline_api.words.clean import clean
from layerline_api.words.queries import pointed

#: How long the server may take to accept and to answer, in seconds.
PATIENCE_S = (3.05, 60)


def ask(command: str, options: argparse.Namespace, question: Callable[[Server, argparse.Namespace], None]) -> int:
    """Ask the server that ``options`` (``server``, ``token``) name; the exit code, with its reason on stderr.

    Where the server says at which column of ``options.query`` it stumbled, the query is shown with a mark below it.
    """
    try:
        environment = configuration.below("ask", getattr(options, "config", None), must=False)
        settings = AskSettings.of(options.server, options.token, environment)
        question(Server(settings.server, settings.token, settings.tls_ca), options)
    except NoAnswer as nothing:
        print(f"layerline {command}: {clean(nothing)}", file=sys.stderr)
        return 1
    except CannotAsk as problem:
        print(f"layerline {command}: {clean(problem)}", file=sys.stderr)
        if problem.column is not None and hasattr(options, "query"):
            print(*pointed(options.query, problem.column), sep="\n", file=sys.stderr)
        return 2
    except configuration.BadSettings as problem:
        print(f"layerline {command}: {clean(problem)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def with_server(parser: argparse.ArgumentParser) -> None:
    """The options that say where to ask."""
    parser.add_argument("--json", action="store_true", help="the API's answer, unchanged")
    parser.add_argument("--server", metavar="URL", help=f"default LAYERLINE_SERVER, else {AskSettings().server}")
    parser.add_argument("--token", help="default LAYERLINE_TOKEN")
    parser.add_argument("--config", metavar="FILE", help="the settings file (`layerline config`)")


class CannotAsk(Exception):
    """The server was not reached, refused, or is not Layerline; the message is for people.

    ``column`` is where in the question's text, from 1, when the server said so.
    """

    def __init__(self, detail: str, column: int | None = None) -> None:
        super().__init__(detail)
        self.column = column


class NoAnswer(Exception):
    """The server has nothing to answer with; the message is its reason."""


class Bearer(AuthBase):
    """``Authorization: Bearer TOKEN``, where there is a token; never what a .netrc says."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Server:
    """The API of one server."""

    def __init__(self, url: str, token: str | None, tls_ca: str | None = None) -> None:
        """``CannotAsk`` when the URL is none."""
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and url.isprintable()
        except ValueError:
            good = False
        if not good:
            raise CannotAsk(f"the server's address {url!r} is not one; expected http://HOST:PORT")
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.auth = Bearer(token)
        self.session.verify = tls_ca or True
        # A proxy of the environment cannot reach this machine's own loopback.
        self.session.trust_env = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> requests.Response:
        """The 200 answer. ``NoAnswer`` for 404, ``CannotAsk`` for everything else."""
        return self._ask("GET", path, params=list(parameters))

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        """The 200 answer. ``NoAnswer`` for 404, ``CannotAsk`` for everything else."""
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **what: Any) -> requests.Response:
        try:
            answer = self.session.request(
                method, f"{self.url}{path}", timeout=PATIENCE_S, allow_redirects=False, **what
            )
        except requests.Timeout:
            raise CannotAsk(f"{self.url} did not answer in time") from None
        except (requests.RequestException, UnicodeError) as problem:
            raise CannotAsk(f"{self.url} cannot be reached: {_reason(problem)}") from None
        if answer.status_code == 200:
            return answer
        try:
            said = answer.json()
            detail, column = str(said["detail"]), said.get("column")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.stranger() from None
        if answer.status_code == 404:
            raise NoAnswer(detail)
        raise CannotAsk(detail, column if isinstance(column, int) else None)

    def stranger(self) -> CannotAsk:
        """What to raise when the answer is not of this API."""
        return CannotAsk(f"{self.url} did not answer as Layerline does")


def body_of(server: Server, answer: requests.Response) -> dict[str, Any]:
    """The answer's JSON object. ``CannotAsk`` where it is none."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise server.stranger()
    return body


def print_body(answer: requests.Response) -> None:
    """The API's body, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.content)
    sys.stdout.buffer.flush()


def causes_of(server: Server) -> list[dict[str, Any]]:
    """Every cause with its documentation."""
    items = body_of(server, server.get("/api/v1/causes")).get("items")
    return items if isinstance(items, list) else []


def _reason(problem: Exception) -> str:
    """The innermost words of a stack of wrapped errors: ``Connection refused``."""
    text = str(problem)
    for known in ("Connection refused", "Name or service not known", "No route to host", "Connection reset"):
        if known in text:
            return known.lower()
    return type(problem).__name__
