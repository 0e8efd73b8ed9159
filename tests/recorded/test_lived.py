"""Recordings are judged in the order of their own time, as if they had been lived through."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from recordings import ZERO_US, document, span, trace
from test_importing import content, opened, run

from layerline_correlator import lived
from layerline_correlator.questions.incidents import IncidentQuery

pytestmark = pytest.mark.long

_SECOND_US = 1_000_000
#: A request every so often, in microseconds; usually, and while the fault lasts, a request takes so long.
_EVERY_US, _USUAL_US, _FAULT_US = 250_000, 23_000, 181_000


def _ninety_seconds(begin_us: int = ZERO_US) -> Iterator[dict[str, Any]]:
    """A fault of 90 seconds after 150 seconds without, and some after it: more requests than a usual is made of."""
    for number in range(255 * _SECOND_US // _EVERY_US):
        at_us = number * _EVERY_US
        is_fault = 150 * _SECOND_US <= at_us < 240 * _SECOND_US
        took_us = (_FAULT_US if is_fault else _USUAL_US) + number % 7 * 100
        trace_id = f"{number + 1:032x}"
        yield trace(trace_id, span(trace_id, number + 1, startTime=begin_us + at_us, duration=took_us))


def _written(path: Path, traces: Iterator[dict[str, Any]]) -> Path:
    path.write_text(document(list(traces)))
    return path


def _slow(store: Path, begin_us: int = ZERO_US) -> dict[str, Any]:
    """What ``why`` says of the window of the fault, and the incident beside it."""
    with opened(store) as correlator:
        from_ns, to_ns = (begin_us + 150 * _SECOND_US) * 1000, (begin_us + 240 * _SECOND_US) * 1000
        rows = correlator._store.cursor().execute(
            "SELECT count(*), count(*) FILTER (slow), min(usual_ns), max(usual_ns) FROM request"
            " WHERE start_ns >= $from_ns AND start_ns < $to_ns",
            {"from_ns": from_ns, "to_ns": to_ns},
        )
        requests, slow, least_ns, most_ns = rows.fetchone() or ()
        incidents = correlator.incidents.list(IncidentQuery(from_ns, to_ns)).items
        return {"requests": requests, "slow": slow, "usual_ns": (least_ns, most_ns), "incidents": incidents}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("recording") / "traces.json", _ninety_seconds())


@pytest.fixture(scope="module")
def told(path: Path) -> str:
    """What the import said, in one go."""
    with redirect_stdout(StringIO()) as out:
        assert run("--store", path.parent / "store", path) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def store(path: Path, told: str) -> Path:
    assert told
    return path.parent / "store"


def test_the_import_names_the_incident_and_the_time_before(told: str) -> None:
    """When it was, as `why` is asked about it, and which time it can be compared with."""
    window = re.search(
        r"the incident:\n {6}layerline why --from (\S+) --to (\S+)\nthe time before it: (\S+)/(\S+)", told
    )
    assert window is not None, told
    begin, end, before, until = window.groups()
    assert (before, until) == ("2025-10-09T08:53:20Z", begin)
    assert begin.startswith("2025-10-09T08:55:5")
    assert end.startswith("2025-10-09T08:57:2")


def test_a_fault_does_not_become_its_own_usual(store: Path) -> None:
    """Every request of a fault of 90 s is slow against what was usual before it, and the incident counts the same."""
    found = _slow(store)
    assert (found["requests"], found["slow"]) == (360, 360)
    assert found["usual_ns"][0] >= _USUAL_US * 1000
    assert found["usual_ns"][1] < (_USUAL_US + 1000) * 1000
    (incident,) = found["incidents"]
    assert incident["end"] is not None
    assert incident["start"].startswith("2025-10-09T08:55:5")
    assert (incident["requests"], incident["affected"]) == (360, 360), incident


def test_it_does_not_matter_where_the_clock_stands(tmp_path: Path) -> None:
    """What is ahead of the clock, within what is taken, is judged at once, settled, and like what lies in the past."""
    ahead_us = time.time_ns() // 1000 + 1800 * _SECOND_US
    store = tmp_path / "store"
    assert run("--store", store, _written(tmp_path / "traces.json", _ninety_seconds(ahead_us))) == 0
    found = _slow(store, ahead_us)
    assert (found["requests"], found["slow"], len(found["incidents"])) == (360, 360, 1)
    with opened(store) as correlator:
        assert correlator.behind() == 0
        verdict = correlator.verdict(f"{1:032x}")
        assert verdict is not None
        assert verdict.settled


def test_of_many_a_fair_sample_has_ledgers(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All slow ones have theirs, the others are drawn and their weights add up to all."""
    monkeypatch.setattr(lived, "ORDINARY_SPANS", 340)
    assert run("--store", tmp_path / "some", path) == 0
    told = capsys.readouterr()
    assert "of 1,020 traces are ordinary and have no ledger" in told.out
    assert "ordinary ones left out" in told.err
    assert _slow(tmp_path / "some")["slow"] == 360
    with opened(tmp_path / "some") as correlator:
        rows = correlator._store.cursor().execute(
            "SELECT count(*) FILTER (slow AND weight = 0), count(*) FILTER (weight = 0), sum(weight) FROM request"
        )
        slow_without, without, together = rows.fetchone() or ()
        assert slow_without == 0
        assert 150 < without < 640
        assert together == pytest.approx(1020, rel=0.15)


def test_what_comes_later_is_judged_with_the_rest(store: Path, tmp_path: Path) -> None:
    """The half of a recording that is imported second is judged as if both had been there: in the order of its time."""
    traces = list(_ninety_seconds())
    second = _written(tmp_path / "second.json", iter(traces[720:]))
    first = _written(tmp_path / "first.json", iter(traces[:720]))
    assert run("--store", tmp_path / "two", second) == 0
    assert run("--store", tmp_path / "two", first) == 0
    one, two = content(store), content(tmp_path / "two")
    assert (two["request"], two["part"]) == (one["request"], one["part"])


def test_an_import_that_was_killed_continues_where_it_was(
    path: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that were judged stay so, the others follow, and what comes out is what an undisturbed import finds; with
    ``--all`` that of a large recording is the same."""
    monkeypatch.setattr(lived, "ORDINARY_SPANS", 100)
    live, seen = lived.Lived._live, []

    def cut_short(self: lived.Lived, *block: Any) -> Iterator[float]:
        seen.append(block)
        if len(seen) == 3:
            raise RuntimeError("killed")
        yield from live(self, *block)

    monkeypatch.setattr(lived.Lived, "_live", cut_short)
    assert run("--all", "--store", tmp_path / "two", path) == 2
    assert run("--all", "--store", tmp_path / "two", path) == 0
    one, two = content(store), content(tmp_path / "two")
    assert (len(two["request"]), two["part"]) == (len(one["request"]), one["part"])
    assert _slow(tmp_path / "two")["slow"] == 360
