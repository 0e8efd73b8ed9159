"""What `layerline doctor` looks at: one file for each check in the folders ``checks``, and what all of them may use.

A check is a file with ``CHECK``. It looks, changes nothing, and says what it found and what cures it. The folder says
what it needs: those of ``layerline`` work with a bare install.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from layerline.command import EXTRAS
from layerline.configuration import BadSettings, Layered, below
from layerline.session import on_this_machine, unchanged
from layerline.settings import DEFAULT_ENDPOINT

OK: Final = "ok"
ADVICE: Final = "advice"
"""It works, and something cannot be seen that could be."""
PROBLEM: Final = "problem"
UNKNOWN: Final = "unknown"
"""It could not be looked at; the reason is what was found."""

#: How long a server or an engine may take to answer, in seconds.
PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in one line, and what to do about it."""

    state: str
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    order: int
    """Checks are shown by this: the machine, the server, then the app."""
    title: str
    look: Callable[[Context], Finding]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, or why it did not."""

    status: int | None
    words: str
    """Why there is no answer, or what a refusal says."""
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    took_s: float = 0.0


@dataclass(frozen=True)
class Context:
    """Where to look. Nothing is kept between two runs; within one, a question is asked once."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    config: str | None = None
    root: str | None = None
    """Where the host's file system is; None: as the agent's settings say."""
    _answers: dict[str, Answer] = field(default_factory=dict, repr=False)

    def settings(self, program: str) -> Mapping[str, str]:
        """The variables of a program, with the settings file below them; without it where it cannot be used."""
        try:
            return below(program, self.config, self.environ, must=False)
        except BadSettings:
            return Layered(self.environ)

    @cached_property
    def host_root(self) -> str:
        """Where the host's file system is."""
        return self.root or self.settings("agent").get("LAYERLINE_HOST_ROOT") or "/"

    def path(self, *parts: str) -> Path:
        """A path of the host."""
        return Path(self.host_root, *(part.lstrip("/") for part in parts))

    @cached_property
    def server(self) -> str:
        """Where commands ask."""
        return (self.settings("ask").get("LAYERLINE_SERVER") or DEFAULT_ENDPOINT).rstrip("/")

    def ask(self, path: str, *, again: bool = False) -> Answer:
        """GET from the server, with the token of commands that ask. Never raises."""
        if again or path not in self._answers:
            mine = self.settings("ask")
            self._answers[path] = exchange("GET", self.server + path, mine.get("LAYERLINE_TOKEN", ""), mine)
        return self._answers[path]


def exchange(method: str, url: str, token: str, variables: Mapping[str, str], **what: Any) -> Answer:
    """One request, within ``PATIENCE_S``. Never raises."""
    headers = {**what.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with requests.Session() as session:
            session.auth = unchanged
            session.trust_env = not on_this_machine(urlsplit(url).hostname or "")
            answer = session.request(
                method, url, headers=headers, timeout=PATIENCE_S, allow_redirects=False,
                verify=variables.get("LAYERLINE_TLS_CA") or True, **what,
            )  # fmt: skip
    except (requests.RequestException, UnicodeError, ValueError, OSError) as problem:
        return Answer(None, reason(problem))
    try:
        body = answer.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    words = str(body.get("detail") or body.get("message") or answer.reason)
    return Answer(answer.status_code, words, body, answer.headers, answer.elapsed.total_seconds())


def reason(problem: Exception) -> str:
    """The innermost words of a stack of wrapped errors."""
    text = str(problem)
    for known in (
        "Connection refused", "Name or service not known", "No route to host", "Connection reset", "timed out",
        "certificate verify failed", "Permission denied", "No such file", "Connection aborted",
    ):  # fmt: skip
        if known.lower() in text.lower():
            return known.lower()
    return f"{type(problem).__name__}: {text[:120]}" if text else type(problem).__name__


def checks() -> Iterator[tuple[str, Check | Finding]]:
    """Every check by its name, in their order; instead of one that cannot be imported, what it needs."""
    found: list[tuple[int, str, Check | Finding]] = []
    for package, extra in EXTRAS.items():
        spec = importlib.util.find_spec(package)
        for path in sorted(Path(spec.origin).parent.glob("checks/*.py")) if spec and spec.origin else ():
            if path.stem == "__init__":
                continue
            try:
                check: Check = importlib.import_module(f"{package}.checks.{path.stem}").CHECK
                found.append((check.order, path.stem, check))
            except ModuleNotFoundError as missing:
                needs = f"it needs {missing.name}: pip install 'layerline[{extra}]'"
                found.append((1000, path.stem, Finding(UNKNOWN, needs)))
    yield from ((name, check) for _, name, check in sorted(found, key=lambda one: one[:2]))


def examine(context: Context) -> Iterator[tuple[str, str, Finding]]:
    """Name, title and finding of each check. One that fails costs itself and nothing more."""
    for name, check in checks():
        if isinstance(check, Finding):
            yield name, name.replace("_", " "), check
            continue
        try:
            found = check.look(context)
        except Exception as problem:
            found = Finding(UNKNOWN, f"this check failed, please report it: {type(problem).__name__}: {problem}")
        yield name, check.title, found
