"""What is worked out, and when: once, with its readings; beyond the budget only what is slow, failed or drawn."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from spans import MS, batch, span_row

from layerline_correlator import correlator as worker
from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger.budget import ANYWAY, Budget, chances
from layerline_correlator.ledger.waiting import Waiting
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Extent, Store
from layerline_correlator.verdict.triage import Triage
from waiting import eventually

S = 10**9
HOUR = 3600 * S


def trace_id(number: int) -> str:
    """As random as ids of traces are, and the same in each run."""
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def request(number: int, zero_ns: int, ms: int = 40, name: str = "GET /", status: int = 0) -> Any:
    drawn = {"id": "a", "kind": "server", "ms": [0, ms], "cpu": ms, "switches": 1, "name": name}
    owner, row = span_row(drawn, trace_id(number), zero_ns + number * MS)
    return owner, row._replace(status=status)


def rows(cursor: duckdb.DuckDBPyConnection, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    return cursor.execute(f"SELECT {columns} FROM request WHERE {where} ORDER BY ALL").fetchall()


def extents(numbers: range, zero_ns: int) -> dict[str, Extent]:
    return {trace_id(number): Extent(zero_ns + number * MS, zero_ns + number * MS) for number in numbers}


# ---- when


def test_a_trace_waits_for_its_readings_and_for_nothing_else() -> None:
    """What is chosen is taken once, at its time, and nothing is due before and after."""
    waiting = Waiting()
    waiting.arrived({"a": Extent(0, 0)}, 0)
    assert waiting.is_due(0)
    assert waiting.is_left_over(0)
    assert not waiting.is_left_over(-1)
    assert waiting.take_fresh() == {"a": Extent(0, 0)}
    waiting.choose("a", 10 * S)
    waiting.all_sorted()
    assert (waiting.due_ns(), waiting.is_due(10 * S - 1), waiting.take(10 * S - 1)) == (10 * S, False, {})
    assert waiting.lag_ns(10 * S - 1) <= 0
    assert not waiting.is_left_over(10 * S - 1)
    assert waiting.is_left_over(10 * S)
    assert waiting.lag_ns(12 * S) == 2 * S
    assert waiting.take(10 * S) == {"a": Extent(0, 0)}
    waiting.done()
    assert (len(waiting), waiting.due_ns(), waiting.is_due(100 * S)) == (0, None, False)


def test_what_is_asked_for_is_taken_early_and_what_failed_is_taken_again() -> None:
    """A list asks for what is urgent, a quiet store gives all; what could not be done waits again."""
    waiting = Waiting()
    waiting.arrived({name: Extent(0, 0) for name in "abc"}, 0)
    waiting.take_fresh()
    for name in "abc":
        waiting.choose(name, 10 * S, is_urgent=name == "b")
    waiting.all_sorted()
    assert set(waiting.take(S, urgent=True)) == {"b"}
    waiting.give_back()
    assert set(waiting.take(S, early=True)) == {"a", "b", "c"}
    waiting.give_back()
    assert (len(waiting), waiting.extent_of("b")) == (3, Extent(0, 0))
    assert set(waiting.take(10 * S)) == {"a", "b", "c"}


def test_what_is_ready_comes_along_with_what_is_due() -> None:
    """Ordinary ledgers may wait for each other, but a pass works out all whose readings are there."""
    waiting = Waiting()
    waiting.arrived({name: Extent(0, 0) for name in "abc"}, 0)
    waiting.take_fresh()
    for name, ready_ns in (("a", 8 * S), ("b", 12 * S)):
        waiting.choose(name, 30 * S, ready_ns=ready_ns)
    waiting.choose("c", 10 * S, is_urgent=True)
    waiting.all_sorted()
    assert not waiting.is_due(9 * S)
    assert set(waiting.take(10 * S)) == {"a", "c"}
    waiting.done()
    assert (waiting.take(29 * S), set(waiting.take(30 * S))) == ({}, {"b"})


def test_at_rest_nothing_is_worked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that is settled is worked out in one pass; without news there is no other, however much time passes."""
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    try:
        stop_worker(correlator)
        passes = count_passes(correlator, monkeypatch)
        assert not correlator._pass()
        correlator.append(batch([request(1, clock.time_ns() - S)]))
        assert eventually(lambda: correlator._waiting.fresh == 1)
        correlator._pass()
        assert passes == []
        with correlator._reading() as cursor:
            assert rows(cursor, "weight, planned, slow") == [(0, 1, False)], "its row is there before its ledger"
        for _ in range(9):
            clock.now_ns += S
            assert not correlator._pass()
        for _ in range(60):
            clock.now_ns += 3 * S
            assert passes == [], "an ordinary ledger waits for a pass that is made anyway"
            correlator._pass()
        for _ in range(2):
            clock.now_ns += 3 * S
            correlator._pass()
        assert passes == [1], "three minutes after its readings are there"
        for _ in range(100):
            clock.now_ns += 60 * S
            assert not correlator._pass()
            assert not correlator._has_work()
        assert passes == [1]
        with correlator._reading() as cursor:
            assert rows(cursor, "weight, planned, slow") == [(1, 1, False)]
    finally:
        correlator.close()


class Clock:
    """The correlator's clock; what it waits for still takes real time."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def time_ns(self) -> int:
        return self.now_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def stop_worker(correlator: Correlator) -> None:
    """End the worker's thread: the test makes its passes."""
    with correlator._wake:
        correlator._closed = True
        correlator._wake.notify_all()
    correlator._thread.join()
    correlator._closed = False


def count_passes(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many traces each pass works out."""
    passes: list[int] = []
    work_out = correlator._careful.work_out

    def counted(traces: Any) -> None:
        passes.append(len(traces))
        work_out(traces)

    monkeypatch.setattr(correlator._careful, "work_out", counted)
    return passes


# ---- who


def test_each_operation_gets_as_many_ledgers_as_the_others() -> None:
    """A rare operation has all of its ledgers, and busy ones share what is left."""
    found = chances({"rare": 3, "busy": 1000, "busier": 5000}, 203)
    assert found == {"rare": 1.0, "busy": 0.1, "busier": 0.02}
    assert chances({"a": 5, "b": 7}, 100) == {"a": 1.0, "b": 1.0}
    assert chances({}, 100) == {}


def test_the_budget_is_a_share_of_a_core() -> None:
    """What passes cost is taken off; what is not used is saved up, but not for long."""
    now_s = [0.0]
    budget = Budget(0.5, lambda: now_s[0])
    for _ in range(40):
        budget.spent(100, 0.4, 0.4)
        now_s[0] += 0.8  # half a core
    assert budget.each_s == pytest.approx(0.004, rel=1e-3)
    before = budget.room(0)
    budget.spent(100, 4.0, 4.0)
    assert budget.room(0) < before
    now_s[0] += 10_000
    each_s = budget.each_s
    assert budget.room(0) == int(10 / each_s)
    assert budget.room(100) == int(10 / each_s) - 100
    assert budget.room(10**9) == 0
    for _ in range(40):  # somebody else has the machine: each takes ten times as long as it costs
        budget.spent(100, 0.4, 4.0)
        now_s[0] += 100.0
    assert budget.room(0) == int(20 / budget.each_took_s) < 510


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(Settings(store=tmp_path / "store", group_ns=0))
    yield opened
    opened.close()


def test_weighted_sums_over_a_sample_are_those_of_all(store: Store) -> None:
    """Of 20,000 traces of three operations some hundred are drawn: weighted, their sums are those of all, within five
    standard deviations of what such a draw has; slow and failed requests are all there, each for itself."""
    zero_ns = time.time_ns() - 60 * S
    draw, spans, numbers = Random(7), [], range(20_000)  # noqa: S311 - a reproducible test
    for number in numbers:
        name = "GET /rare" if number % 1000 == 0 else "GET /a" if number % 3 else "GET /b"
        ms = 900 if number % 500 == 1 else 1 + draw.randrange(200)
        spans.append(request(number, zero_ns // MS * MS - number * MS, ms, name, 2 if number % 500 == 2 else 0))
    store.append(batch(spans))
    with store.cursor() as cursor:
        chosen = Triage(cursor, 500 * MS).sort({one: Extent(zero_ns, zero_ns) for one in map(trace_id, numbers)}, 1_000)
        urgent = {name for name, one in chosen.items() if one.is_urgent}
        assert urgent == {trace_id(number) for number in numbers if number % 500 in (1, 2)}
        assert {weight for (weight,) in rows(cursor, "planned", "slow OR failed(status)")} == {1.0}
        assert len(rows(cursor, "trace_id", "operation = 'GET /rare' AND planned = 1")) == 20
        assert rows(cursor, "count(*), sum(weight)") == [(20_000, 0.0)]
        ordinary = "NOT slow AND NOT failed(status) AND operation = "
        for operation in ("'GET /a'", "'GET /b'"):
            for what in ("1", "(end_ns - start_ns) / 1e6"):
                ((truth, estimate, squares, chance),) = rows(
                    cursor,
                    f"sum({what}), sum(planned * {what}), sum({what} * {what}), 1 / max(planned)",
                    ordinary + operation,
                )
                assert 0.01 < chance < 0.1
                assert abs(estimate - truth) <= 5 * sqrt(squares * (1 - chance) / chance)
        # The fair sample has its share of slow and failed requests too.
        ((fair, fair_urgent),) = rows(cursor, "count(*), count(*) FILTER (slow OR failed(status))", "fair")
        assert abs(fair_urgent - fair * 80 / 20_000) <= 5 * sqrt(fair * 80 / 20_000)


def test_in_an_outage_the_worker_does_not_fall_behind_without_end(store: Store) -> None:
    """Where far more fails than can be worked out, what failed is drawn too, and weighted."""
    zero_ns = time.time_ns() - 60 * S
    numbers = range(2_000)
    store.append(batch(request(number, zero_ns, status=2) for number in numbers))
    with store.cursor() as cursor:
        chosen = Triage(cursor, 500 * MS).sort(extents(numbers, zero_ns), 0)
        assert len(chosen) < 400
        ((count, estimate),) = rows(cursor, "count(*) FILTER (planned > 0), sum(planned)")
        assert count == len(chosen)
        chance = 4 * ANYWAY / 2_000
        assert abs(estimate - 2_000) <= 5 * sqrt(2_000 * (1 - chance) / chance)


def test_what_is_slow_is_known_before_any_ledger(store: Store) -> None:
    """The usual of an operation is known from the rows of its requests, as soon as there are 20."""
    zero_ns = time.time_ns() - 60 * S
    with store.cursor() as cursor:
        store.append(batch(request(number, zero_ns) for number in range(20)))
        assert not any(
            one.is_urgent for one in Triage(cursor, 500 * MS).sort(extents(range(20), zero_ns), 100).values()
        )
        store.append(batch(request(number, zero_ns, 130) for number in range(20, 22)))
        found = Triage(cursor, 500 * MS).sort(extents(range(20, 22), zero_ns), 100)
        assert [one.is_urgent for one in found.values()] == [True, True]
        assert rows(cursor, "DISTINCT usual_ns", "slow") == [(40 * MS,)]


def test_what_was_drawn_stays_drawn(store: Store) -> None:
    """Spans that come late change neither who was drawn nor a weight; one that then failed stands for itself."""
    zero_ns = time.time_ns() - 60 * S
    numbers = range(1_000)
    store.append(batch(request(number, zero_ns) for number in numbers))
    with store.cursor() as cursor:
        triage = Triage(cursor, 500 * MS)
        first = triage.sort(extents(numbers, zero_ns), 50)
        before = rows(cursor, "trace_id, planned, fair")
        left_out = next(trace_id(number) for number in numbers if trace_id(number) not in first)
        again = triage.sort(extents(numbers, zero_ns), 1_000)
        assert rows(cursor, "trace_id, planned, fair") == before
        assert again.keys() == first.keys()
        assert triage.left_out == 1_000 - len(first)
        number = next(number for number in numbers if trace_id(number) == left_out)
        owner, row = request(number, zero_ns, status=2)
        store.append(batch([(owner, row._replace(span_id="b" * 16, parent_span_id=row.span_id, kind=2, resource="x"))]))
        assert triage.sort({left_out: extents(numbers, zero_ns)[left_out]}, 0)[left_out].is_urgent
        assert {planned for (planned,) in rows(cursor, "planned", f"trace_id = '{left_out}'")} == {1.0}


def test_beyond_the_budget_all_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slow request has its ledger at once when somebody asks; a trace that was left out is worked out for whoever
    asks for it; coverage and health say how many were left out."""
    monkeypatch.setattr(Budget, "room", lambda *_: 0)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    try:
        now_ns = time.time_ns()
        correlator.append(batch(request(number, now_ns - S, 700 if number % 100 == 0 else 40) for number in range(400)))
        query = RequestQuery(now_ns - HOUR, now_ns + HOUR)
        page = correlator.requests(query)
        assert {(item.trace_id, item.cause) for item in page.items} == {
            (trace_id(number), "app.cpu_busy") for number in range(0, 400, 100)
        }
        (verdict,) = correlator.verdicts(query).items
        assert (verdict.requests, verdict.slow) == (400, 4)
        assert {part.cause for part in verdict.parts} == {"app.cpu_busy"}
        everything = correlator.requests(replace(query, min_duration_ns=1, limit=1000))
        assert len(everything.items) == 400
        with correlator._reading() as cursor:
            (left_out, *_), *others = rows(cursor, "trace_id", "planned = 0")
        asked = correlator.verdict(left_out)
        assert asked is not None
        assert {part.cause: part.lost_ns for part in asked.parts} == {"app.cpu_busy": 40 * MS}
        with correlator._reading() as cursor:
            assert rows(cursor, "weight", f"trace_id = '{left_out}'") == [(0.0,)], "nothing of it is stored"
        (covered,) = correlator.coverage(query.from_ns, query.to_ns).services
        assert (covered.requests, covered.left_out) == (400, 1 + len(others))
        assert correlator.health().left_out_traces == 1 + len(others) > 300
    finally:
        correlator.close()


def test_who_asks_for_one_trace_finds_what_is_usual_for_it(correlator: Correlator) -> None:
    """Ordinary requests wait for each other, but not longer than for the first question about a request like them."""
    now_ns = time.time_ns()
    correlator.append(batch(request(number, now_ns - S) for number in range(30)))
    correlator.append(batch([request(200, now_ns - S, 300)]))
    verdict = correlator.verdict(trace_id(200))
    assert verdict is not None
    assert verdict.usual_ns == 40 * MS
    assert [(culprit.cause, culprit.entity.type) for culprit in verdict.culprits] == [("app.cpu_busy", "process")]
