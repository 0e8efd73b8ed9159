"""What a case left behind: one JSON line with everything that scoring needs, so that it can be scored again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Truth:
    """What was injected."""

    cause: str
    entity_id: str | None
    """Who must be named; None: not fixed."""
    truth_ns: int
    source: str
    """``client`` (with less without), ``constant`` or ``kernel``."""
    also: tuple[str, ...] = ()
    """Causes that are as right."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every cause that is right."""
        return self.cause, *self.also


@dataclass(frozen=True, slots=True)
class Record:
    """One case, as it went."""

    number: int
    piece: int
    """The piece of the run that it was part of."""
    fault: str
    kind: str
    app: str
    way: str
    """How its container was run (``way.parse``)."""
    variant: str
    parameters: Mapping[str, int]
    truths: tuple[Truth, ...]
    neighbour_id: str | None
    blind: str | None
    healthy_ns: tuple[int, ...]
    """Client durations without the fault, just before."""
    faulty_ns: tuple[int, ...]
    others_ratio: float
    """The share of the subject's cores that was in other hands."""
    disturbed: bool
    """It was so even after repeats, or the truth is not known: not counted, but listed."""
    trace_id: str
    """The judged request: the middle one by client time."""
    seconds: float
    ended_s: float = 0.0
    """When it was over, since the piece began."""
    kernel_ns: Mapping[str, int] | None = None
    """What the kernel saw along the path of the judged request, by cause; None: it was not asked."""
    verdict: dict[str, Any] | None = None
    """The API's body; None: the server does not know the request."""
    failure: str | None = None
    """Why the case could not be run to its end."""


def line(record: Record) -> str:
    """A record as one line."""
    return json.dumps(asdict(record), separators=(",", ":"))


def load(path: Path) -> list[Record]:
    """The records of a file. What follows the last whole line is left out: whoever wrote it was cut off."""
    return [parse(text) for text in path.read_text().rpartition("\n")[0].splitlines() if text]


def parse(text: str) -> Record:
    """A record from its line. TypeError names a field that does not belong there or is missing."""
    body = json.loads(text)
    for name in ("healthy_ns", "faulty_ns"):
        body[name] = tuple(body[name])
    body["truths"] = tuple(Truth(**{**truth, "also": tuple(truth["also"])}) for truth in body["truths"])
    return Record(**body)
