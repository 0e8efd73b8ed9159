"""One bad trace costs a few tries and itself; everything else has its ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from math import log2
from pathlib import Path
from typing import Any

import duckdb
import pytest
from spans import MS, a_while_ago, batch, span_row

from layerline_correlator import correlator as worker
from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger import careful
from layerline_correlator.ledger.careful import ENDS, TRIES, Careful, Traces
from layerline_correlator.ledger.waiting import ALONGSIDE_NS, Waiting
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Extent, Store

HOUR = 3600 * 10**9


def request(trace_id: str, zero_ns: int, name: str = "GET /") -> Any:
    drawn = {"id": trace_id[:8], "kind": "server", "ms": [0, 600], "cpu": 500, "wait": 0, "name": name}
    return span_row(drawn, trace_id, zero_ns)


def many(count: int) -> dict[str, Extent]:
    return {f"{number:032x}": Extent(10**18 + number, 10**18 + number) for number in range(count)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(Settings(store=tmp_path / "store", group_ns=0))
    yield opened
    opened.close()


OUT_OF_RANGE = duckdb.ConversionException("1e19 is out of range")


class Tries:
    """Tries that fail where one of these traces is among them; with ``readings_only``, only when readings are asked."""

    def __init__(self, bad: set[str], *, readings_only: bool = True, problem: Exception = OUT_OF_RANGE) -> None:
        self.bad, self.readings_only, self.problem = bad, readings_only, problem
        self.made: list[tuple[int, bool]] = []
        self.kept: dict[str, bool] = {}

    def __call__(self, traces: Traces, readings: bool) -> None:
        self.made.append((len(traces), readings))
        if self.bad & traces.keys() and (readings or not self.readings_only):
            raise self.problem
        self.kept |= dict.fromkeys(traces, readings)


def remembered(store: Store) -> dict[str, tuple[int, str]]:
    with store.cursor() as cursor:
        rows = cursor.execute("SELECT trace_id, tries, lacks FROM failed").fetchall()
    return {trace_id: (tries, lacks) for trace_id, tries, lacks in rows}


@pytest.mark.parametrize("problem", [OUT_OF_RANGE, TypeError("a fault of ours"), KeyError("another")])
def test_one_bad_trace_is_found_in_few_tries(store: Store, tmp_path: Path, problem: Exception) -> None:
    """Of 2,000 traces one fails: about two tries for each halving, and only that one lacks its readings."""
    traces = many(2_000)
    bad = list(traces)[1_234]
    tries = Tries({bad}, problem=problem)
    Careful(store.cursor(), tmp_path, tries).work_out(traces)
    assert len(tries.made) <= 2 * log2(2_000) + 4
    assert tries.kept == {trace_id: trace_id != bad for trace_id in traces}
    assert remembered(store) == {bad: (1, "readings")}


def test_where_all_fail_they_are_not_looked_for_one_by_one(store: Store, tmp_path: Path) -> None:
    """A reading that spoils every trace of its machine costs a number of tries that does not grow with them."""
    traces = many(2_000)
    tries = Tries(set(traces))
    Careful(store.cursor(), tmp_path, tries).work_out(traces)
    assert len(tries.made) <= 6 * log2(2_000)
    assert tries.kept == dict.fromkeys(traces, False)
    assert set(remembered(store).values()) == {(1, "readings")}


def test_what_fails_again_and_again_is_given_up(store: Store, tmp_path: Path) -> None:
    """New spans bring a trace a new try, a few times, also across restarts; one that succeeds is forgotten."""
    traces = many(2)
    first, second = traces
    tries = Tries({first, second})
    for _ in range(TRIES - 1):
        Careful(store.cursor(), tmp_path, tries).work_out(traces)
    tries.bad = {first}
    known = Careful(store.cursor(), tmp_path, tries)
    known.work_out(traces)
    assert remembered(store) == {first: (TRIES, "readings")}
    tries.made.clear()
    Careful(store.cursor(), tmp_path, tries).work_out({first: traces[first]})
    assert tries.made == []


def test_a_fault_of_the_machine_is_not_the_traces(store: Store, tmp_path: Path) -> None:
    """A full disk says nothing of the traces: none is set aside, and the worker hears of it."""

    def full(_traces: Traces, _readings: bool) -> None:
        raise duckdb.IOException("No space left on device")

    with pytest.raises(duckdb.IOException):
        Careful(store.cursor(), tmp_path, full).work_out(many(3))
    assert remembered(store) == {}


def test_traces_at_work_when_the_process_ended_are_tried_in_small_groups(store: Store, tmp_path: Path) -> None:
    """A trace that ends the process is alone after a few starts, and is then not tried again."""
    traces = many(100)
    bad = list(traces)[42]
    tries: list[int] = []

    class Ended(BaseException):
        """The process is gone."""

    def attempt(among: Traces, _readings: bool) -> None:
        tries.append(len(among))
        if bad in among:
            raise Ended

    starts = 0
    while True:
        starts += 1
        try:
            Careful(store.cursor(), tmp_path, Until(attempt, tmp_path / "at-work.json")).work_out(traces)
        except Ended:
            (tmp_path / "at-work.json").write_text(json.dumps(Until.noted))
            continue
        break
    assert starts <= 4 + ENDS
    assert remembered(store) == {bad: (TRIES, "ledger")}


class Until:
    """A try that notes what the file said: a process that is killed leaves it as it is."""

    noted: Any = None

    def __init__(self, attempt: Callable[[Traces, bool], None], file: Path) -> None:
        self.attempt, self.file = attempt, file

    def __call__(self, traces: Traces, readings: bool) -> None:
        Until.noted = json.loads(self.file.read_text())
        self.attempt(traces, readings)


@pytest.mark.parametrize("without_readings", [True, False])
def test_a_bad_trace_is_kept_and_told(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, without_readings: bool
) -> None:
    """It keeps its parts where its spans alone give them, else none; those beside it lack nothing; it is counted."""
    zero_ns, bad = a_while_ago(120), f"{3:032x}"
    work_out = worker.ledger.work_out

    def poisoned(cursor: Any, traces: Traces, *arguments: Any, readings: bool, **more: Any) -> int:
        if bad in traces and (readings or not without_readings):
            raise duckdb.OutOfMemoryException("out of memory")
        return work_out(cursor, traces, *arguments, readings=readings, **more)

    monkeypatch.setattr(worker.ledger, "work_out", poisoned)
    correlator.append(batch(request(f"{number:032x}", zero_ns + number) for number in range(1, 6)))
    found = correlator.verdict(bad)
    assert found is not None
    assert found.duration_ns == 600 * MS
    assert found.unexplained_ns + sum(part.lost_ns for part in found.parts) == 600 * MS
    assert bool(found.parts) == without_readings
    assert len(correlator.requests(RequestQuery(zero_ns - HOUR, zero_ns + HOUR)).items) == (
        5 if without_readings else 4
    )
    health = correlator.health()
    assert (health.unread_traces, health.failed_traces) == ((1, 0) if without_readings else (0, 1))
    (covered,) = correlator.coverage(zero_ns - HOUR, zero_ns + HOUR).services
    assert (covered.requests, covered.unread, covered.refused) == (5, 1, 0 if without_readings else 1)


def test_a_try_that_takes_too_long_has_failed(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that keeps the database busy without end is cut off, and judged without readings."""
    zero_ns, bad = a_while_ago(120), f"{3:032x}"
    work_out = worker.ledger.work_out

    def endless(cursor: Any, traces: Traces, *arguments: Any, readings: bool, **more: Any) -> int:
        if readings and bad in traces:
            careful.TRY_S = 600.0  # of the tries after this one
            cursor.execute("SELECT count(*) FROM range(10_000_000_000) AS a, range(10_000_000_000) AS b").fetchall()
        return work_out(cursor, traces, *arguments, readings=readings, **more)

    monkeypatch.setattr(worker.ledger, "work_out", endless)
    monkeypatch.setattr(careful, "TRY_S", 0.5)
    correlator.append(batch([request(bad, zero_ns)]))
    assert correlator.verdict(bad) is not None
    assert correlator.health().unread_traces == 1


def test_a_pass_takes_traces_of_the_same_minutes(correlator: Correlator) -> None:
    """One trace of yesterday among those of now makes a pass of its own, and both have their turn."""
    now_ns = a_while_ago(0)
    waiting = Waiting()
    waiting.arrived({"old": Extent(now_ns - 18 * HOUR, now_ns - 18 * HOUR)}, now_ns)
    waiting.arrived({f"new-{n}": Extent(now_ns + n, now_ns + n) for n in range(5)}, now_ns)
    for trace_id, extent in (*waiting.take_fresh().items(), *waiting.take_fresh().items()):
        waiting.choose(trace_id, now_ns, extent)
    waiting.choose("due", now_ns - 1, Extent(now_ns - 9 * HOUR, now_ns - 9 * HOUR))
    waiting.choose("later", now_ns + 1, Extent(now_ns, now_ns))
    passes = []
    while waiting.is_due(now_ns):
        taken = waiting.take(now_ns)
        waiting.done()
        begins = [extent.from_ns for extent in taken.values()]
        assert max(begins) - min(begins) <= ALONGSIDE_NS
        passes.append(set(taken))
    assert passes == [{f"new-{n}" for n in range(5)}, {"old"}, {"due"}]


def test_a_late_trace_does_not_date_back_those_that_arrive_with_it(store: Store) -> None:
    """What a commit brings has its own times, trace by trace."""
    now_ns = a_while_ago(0)
    arrived: list[dict[str, Extent]] = []
    store._arrived = lambda news: arrived.append(dict(news))
    store.append(batch([request("0a" * 16, now_ns - 18 * HOUR), request("0b" * 16, now_ns)]))
    (news,) = arrived
    assert news == {
        "0a" * 16: Extent(now_ns - 18 * HOUR, now_ns - 18 * HOUR),
        "0b" * 16: Extent(now_ns, now_ns),
    }
