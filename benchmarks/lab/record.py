"""What a run left behind, so that it can be ended later and scored again: its plan, its pieces, a line for each case.

A run is a folder. ``plan.json`` says which cases were drawn. ``pieces.jsonl`` has a line for each time that some of
them were run, with the commit; ``cases.jsonl`` has one for each case that was run, with everything that scoring needs.
"""

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


@dataclass(frozen=True, slots=True)
class Piece:
    """One sitting of a run."""

    number: int
    command: str
    commit: str
    dirty: bool
    """Whether the tree had changes that were not committed: then it was no measurement of this commit."""
    machine: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A drawn case in words, so that it is the same one when the catalogue has changed since."""

    number: int
    fault: str
    way: str
    parameters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which cases make the whole run, in the order in which they are run."""

    seed: str
    full: bool
    """Whether it is the full catalogue, worth a document; not a choice of faults."""
    cases: tuple[Planned, ...]


class Folder:
    """The folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cases = path / "cases.jsonl"
        self._plan, self._pieces = path / "plan.json", path / "pieces.jsonl"

    def begin(self, plan: Plan) -> None:
        """Make the folder, and write the plan. ValueError if there is a run in it already."""
        if self._plan.exists():
            raise ValueError(f"{self.path} holds a run already: --resume {self.path} goes on with it")
        self.path.mkdir(parents=True, exist_ok=True)
        self._plan.write_text(json.dumps(asdict(plan), indent=1) + "\n")

    def plan(self) -> Plan:
        """The plan. ValueError if there is none."""
        if not self._plan.exists():
            raise ValueError(f"{self.path} holds no run: there is no {self._plan.name} in it")
        body = json.loads(self._plan.read_text())
        return Plan(body["seed"], body["full"], tuple(Planned(**planned) for planned in body["cases"]))

    def records(self) -> list[Record]:
        """What was run so far."""
        return load(self.cases) if self.cases.exists() else []

    def pieces(self) -> list[Piece]:
        """Its pieces so far."""
        text = self._pieces.read_text() if self._pieces.exists() else ""
        return [Piece(**json.loads(one)) for one in text.splitlines()]

    def add_piece(self, command: str, commit: str, dirty: bool, machine: str) -> Piece:
        """Begin another piece; a line that its predecessor could not finish is dropped."""
        if self.cases.exists():
            whole, newline, _ = self.cases.read_text().rpartition("\n")
            self.cases.write_text(whole + newline)
        piece = Piece(len(self.pieces()) + 1, command, commit, dirty, machine)
        with self._pieces.open("a") as lines:
            lines.write(json.dumps(asdict(piece)) + "\n")
        return piece

    def store_of(self, piece: int) -> Path:
        """The folder of a piece's store (``layerline``), if it was ended in order."""
        return self.path / f"piece-{piece}"
