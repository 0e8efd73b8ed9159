"""What commands that ask have in common: whom they ask, how they say what came back, and how they end.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from rich.console import Console
from rich.text import Text

from layerline import configuration
from layerline.parsing import meant
from layerline_api.settings import AskSettings
from layerline_api.words.clean import clean
from layerline_api.words.queries import pointed

#: How long the server may take to accept and to answer, in seconds.
PATIENCE_S = (3.05, 60)
#: An answer that takes longer than this is announced, in seconds.
SHOWN_AFTER_S = 2.0


def chosen_server(options: argparse.Namespace, patience_s: tuple[float, float] = PATIENCE_S) -> Server:
    """The server that ``options`` (``server``, ``token``, ``config``), variables or the settings file name.

    ``BadSettings`` where that file is wrong, ``CannotAsk`` where the address is none.
    """
    environment = configuration.below("ask", getattr(options, "config", None), must=False)
    settings = AskSettings.of(getattr(options, "server", None), getattr(options, "token", None), environment)
    return Server(settings.server, settings.token, settings.tls_ca, patience_s)


def ask(command: str, options: argparse.Namespace, question: Callable[[Server, argparse.Namespace], None]) -> int:
    """Ask the server that ``options`` (``server``, ``token``) name; the exit code, with its reason on stderr.

    Where the server says at which column of ``options.query`` it stumbled, the query is shown with a mark below it.
    """
    server = None
    try:
        server = chosen_server(options)
        question(server, options)
    except NoAnswer as nothing:
        hint = _meant_service(server, getattr(options, "service", None))
        print(f"layerline {command}: {clean(nothing)}{hint}", file=sys.stderr)
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


def _meant_service(server: Server | None, service: str | None) -> str:
    """``; did you mean web?`` where nothing is known of the service that was asked for."""
    if server is None or service is None:
        return ""
    known = services_of(server)
    return "" if service in known else meant(service, known)


def trace_id(text: str) -> str:
    """A trace id, also out of the address of a page that shows the trace (ours, Jaeger's, …) or a ``traceparent``.

    What has none is left as it is: the server says what it expected.
    """
    found = re.findall(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])", text)
    if found:
        return str(found[0]).lower()
    short = re.search(r"://[^?#]*/traces?/([0-9a-fA-F]{1,31})(?![0-9a-fA-F])", text)  # Jaeger leaves out leading zeros
    return short[1].lower().zfill(32) if short else text.lower()


def incident_id(text: str) -> str:
    """An incident's id, also out of the address of its page."""
    found = re.search(r"/incidents/([0-9a-fA-F]{12})(?![0-9a-fA-F])", text)
    return (found[1] if found else text).lower()


def with_server(parser: argparse.ArgumentParser) -> None:
    """The options of a command that prints an answer, and says where to ask."""
    parser.add_argument("--json", action="store_true", help="the API's answer, unchanged")
    with_address(parser)


def with_address(parser: argparse.ArgumentParser) -> None:
    """The options that say where to ask."""
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

    def __init__(
        self, url: str, token: str | None, tls_ca: str | None = None, patience_s: tuple[float, float] = PATIENCE_S
    ) -> None:
        """``CannotAsk`` when the URL is none."""
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and url.isprintable()
        except ValueError:
            good = False
        if not good:
            raise CannotAsk(f"the server's address {url!r} is not one; expected http://HOST:PORT")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
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
            with _waiting_for(self.url):
                answer = self.session.request(
                    method, f"{self.url}{path}", timeout=self.patience_s, allow_redirects=False, **what
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


@contextmanager
def _waiting_for(url: str) -> Iterator[None]:
    """Say on the terminal what is waited for, once it takes longer than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    status = Console(stderr=True).status(Text(f"waiting for {url} …"))
    timer = threading.Timer(SHOWN_AFTER_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


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


def services_of(server: Server) -> list[str]:
    """Services that answered requests in the last hour."""
    return sorted({clean(item["service"]) for item in items_of(server, "/api/v1/services", [("since", "1h")])})


def items_of(server: Server, path: str, parameters: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """A list's items; none where the server does not answer: who proposes a name must not fail over it."""
    try:
        items = body_of(server, server.get(path, parameters)).get("items")
    except (CannotAsk, NoAnswer):
        return []
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _reason(problem: Exception) -> str:
    """The innermost words of a stack of wrapped errors: ``Connection refused``."""
    text = str(problem)
    for known in ("Connection refused", "Name or service not known", "No route to host", "Connection reset"):
        if known in text:
            return known.lower()
    return type(problem).__name__
