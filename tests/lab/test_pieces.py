"""A run in pieces: what was cut off goes on where it was, and says which piece ran on which commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab import command, pace
from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.command import main, remaining
from benchmarks.lab.draw import Choice, by_container, draw, planned
from benchmarks.lab.fault import Case
from benchmarks.lab.folder import Folder, Piece, Plan
from benchmarks.lab.record import Record, line, load
from benchmarks.lab.report import Setting


def cases(count: int = 40) -> list[Case]:
    """Cases in the order in which they are run."""
    drawn = draw([Choice(fault, fault.ways) for fault in all_faults().values()], count, "1")
    return [case for _, group in by_container(drawn, "1") for case in group]


def record(case: Case, piece: int = 1, **fields: Any) -> Record:
    """A case that could not be run to its end: the shortest record."""
    usual: dict[str, Any] = {
        "number": case.number,
        "piece": piece,
        "fault": case.fault.name,
        "kind": str(case.fault.kind),
        "app": case.way.app,
        "way": str(case.way),
        "variant": "",
        "parameters": dict(case.parameters),
        "truths": (),
        "neighbour_id": None,
        "blind": None,
        "healthy_ns": (),
        "faulty_ns": (),
        "others_ratio": 0.0,
        "disturbed": False,
        "trace_id": "",
        "seconds": 4.0,
        "failure": "it did not come up",
    }
    return Record(**(usual | fields))


def begun(path: Path, plan: list[Case]) -> Folder:
    """A run's folder with its plan."""
    folder = Folder(path)
    folder.begin(Plan("1", True, tuple(planned(case) for case in plan)))
    return folder


def test_what_was_cut_off_in_the_middle_of_a_line_is_run_again(tmp_path: Path) -> None:
    """A line that was not written to its end is no record, and the next piece does not write behind it."""
    plan = cases()
    folder = begun(tmp_path, plan)
    folder.add_piece("lab", "c0ffee", False, "a machine")
    folder.cases.write_text(line(record(plan[0])) + "\n" + line(record(plan[1]))[:50])
    assert [case.number for case in remaining(plan, folder.records())] == [case.number for case in plan[1:]]
    assert folder.add_piece("lab --resume", "beef", False, "a machine").number == 2
    with folder.cases.open("a") as lines:
        lines.write(line(record(plan[1], piece=2)) + "\n")
    assert [(one.number, one.piece) for one in load(folder.cases)] == [(plan[0].number, 1), (plan[1].number, 2)]


def test_a_run_goes_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--resume`` runs the cases that have no record, in the plan's order, as another piece; a failure is a record."""
    plan = cases()
    folder = begun(tmp_path, plan)
    folder.add_piece("lab", "c0ffee", False, "a machine")
    folder.cases.write_text("".join(line(record(case)) + "\n" for case in plan[:25]))
    ran: list[tuple[int, int]] = []

    def run(console: object, left: list[Case], folder: Folder, piece: Piece, minutes: float | None) -> None:
        ran.extend((case.number, piece.number) for case in left)

    monkeypatch.setattr(command, "run", run)
    assert main(["--resume", str(tmp_path)]) == 0
    assert ran == [(case.number, 2) for case in plan[25:]]
    assert [piece.command for piece in folder.pieces()] == ["lab", f"python -m benchmarks.lab --resume {tmp_path}"]


def test_a_folder_holds_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds a run already is not begun again, and one without a run is not resumed."""
    begun(tmp_path, cases())
    assert main(["--keep", str(tmp_path), "--only", "nothing"]) == 2
    assert f"holds a run already: --resume {tmp_path}" in capsys.readouterr().err
    assert main(["--resume", str(tmp_path / "nowhere")]) == 2
    assert "holds no run: there is no plan.json in it" in capsys.readouterr().err


def test_the_report_names_every_piece() -> None:
    """Each piece is listed with its commit, its cases and its time; changes that were not committed are said."""
    plan = cases(4)
    pieces = [Piece(1, "lab", "c0ffee", False, "a machine"), Piece(2, "lab --resume f", "beef", True, "a machine")]
    records = [record(case, 1 + index // 3, ended_s=60.0 * (index % 3 + 1)) for index, case in enumerate(plan)]
    first, second = Setting("1", pieces, records).lines()[1:3]
    assert first == "Piece 1: 3 cases in 3 minutes; `lab`; commit `c0ffee`; a machine"
    assert "1 cases in 1 minutes" in second
    assert "not a measurement of this commit" in second


def test_how_long_a_run_takes_is_known_beforehand() -> None:
    """Without cases of its own a run is guessed from containers and cases; later its own pace counts."""
    plan = cases()
    assert "40 cases in" in pace.expected(plan, [])
    assert pace.seconds(plan[:10], []) < pace.seconds(plan, [])
    done = [record(case, 1 + index // 20, ended_s=10.0 * (index % 20 + 1)) for index, case in enumerate(plan)]
    assert pace.seconds(plan[:6], done) == 6 * 10 + pace.AROUND_S
