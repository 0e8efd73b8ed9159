"""What the agent says to the person who runs it: a line on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

_said: Final[set[str]] = set()


def say(line: str) -> None:
    """One line. Nobody is harmed where nobody listens."""
    with contextlib.suppress(OSError, ValueError):  # stderr is closed, or who read it has gone
        print(f"layerline agent: {line}", file=sys.stderr, flush=True)


def failed(what: str, problem: Exception) -> None:
    """A failure of ours, which costs what it was about and nothing more. Said once for each kind; please report it."""
    kind = f"{what} {type(problem).__name__}"
    if kind not in _said:
        _said.add(kind)
        say(f"{what} failed and is left out where it fails; the agent goes on: {type(problem).__name__}: {problem}")
