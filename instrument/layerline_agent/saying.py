"""What the agent says to the person who runs it: a line on stderr, as text or as JSON."""

from __future__ import annotations

from typing import Final

from layerline import lines

_said: Final[set[str]] = set()


def say(line: str) -> None:
    """One line. Nobody is harmed where nobody listens."""
    lines.say("layerline agent", line)


def failed(what: str, problem: Exception) -> None:
    """A failure of ours, which costs what it was about and nothing more. Said once for each kind; please report it."""
    kind = f"{what} {type(problem).__name__}"
    if kind not in _said:
        _said.add(kind)
        say(f"{what} failed and is left out where it fails; the agent goes on: {type(problem).__name__}: {problem}")
