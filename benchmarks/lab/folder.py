"""What a run leaves behind, so that it can be ended later and scored again: its plan, its pieces, a line for each case.

A run is a folder. ``plan.json`` says which cases were drawn. ``pieces.jsonl`` has a line for each time that some of
them were run, with the commit; ``cases.jsonl`` has one for each case that was run (``record``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.lab.record import Record, load


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
            raise ValueError(f"{self.path} holds a run already: --resume {self.path} continues it")
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
