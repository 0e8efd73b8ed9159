"""What takes too long is cut off, and is told apart from what a busy machine did not run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import pytest
from spans import a_while_ago, batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import answers
from layerline_correlator.store import patience
from layerline_correlator.store.patience import TooBusy, TooHeavy, cut_off
from waiting import eventually

ENDLESS = "SELECT count(*) FROM range(1000000000000)"


@pytest.fixture
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``waits(3)``: each time the kernel is asked, the thread has waited for a CPU for three seconds more."""

    def every_time(seconds: float) -> None:
        times = itertools.count()
        monkeypatch.setattr(patience, "_stood_ready_s", lambda thread: next(times) * seconds)

    return every_time


def test_what_ran_and_did_not_end_is_too_heavy(
    cursor: duckdb.DuckDBPyConnection, waits: Callable[[float], None]
) -> None:
    """A question that had its CPU and is not done in time is to be narrowed."""
    waits(0)
    with pytest.raises(TooHeavy, match=r"longer than 0\.1 s"), cut_off(cursor, 0.1):
        cursor.execute(ENDLESS).fetchall()
    assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_what_hardly_ran_is_to_be_asked_again(
    cursor: duckdb.DuckDBPyConnection, waits: Callable[[float], None]
) -> None:
    """A question whose thread waited for a CPU for most of the time is not too heavy: the machine is busy."""
    waits(9)
    with pytest.raises(TooBusy, match="9 s were spent waiting for a CPU"), cut_off(cursor, 0.1):
        cursor.execute(ENDLESS).fetchall()


def test_work_that_waits_for_a_cpu_is_given_more_time(
    cursor: duckdb.DuckDBPyConnection, waits: Callable[[float], None]
) -> None:
    """Where that is allowed, time without a CPU does not count, but not without end."""
    waits(0.2)
    began = time.monotonic()
    with pytest.raises(TooHeavy), cut_off(cursor, 0.1, longest_s=0.5):
        cursor.execute(ENDLESS).fetchall()
    assert time.monotonic() - began >= 0.45


def test_the_kernel_says_how_long_a_thread_waited() -> None:
    """The figure is not negative, does not fall, and is 0 for a thread that is not there."""
    first, then = (patience._stood_ready_s(patience.threading.get_native_id()) for _ in range(2))
    assert 0 <= first <= then
    assert patience._stood_ready_s(2**22 + 1) == 0


def test_a_trace_that_takes_long_is_still_being_worked_out(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for a trace while it is worked out, and longer than a question may take, is told that, not to ask for
    less; afterwards it is there."""
    work_out, held = correlator._attempt, [True]

    def slow(traces: Mapping[str, Any], readings: bool) -> None:
        eventually(lambda: not held[0], "the end of the test")
        work_out(traces, readings)

    monkeypatch.setattr(correlator._careful, "_attempt", slow)
    monkeypatch.setattr(answers, "PATIENCE_S", 0.3)
    monkeypatch.setattr(answers, "work_out_here", lambda cursor, *_, **__: cursor.execute(ENDLESS).fetchall())
    monkeypatch.setattr(correlator, "_patience_s", lambda: 0.1)
    zero_ns = a_while_ago(60)
    drawn = [{"id": "a", "kind": "server", "ms": [0, 100]}, {"id": "b", "parent": "a", "ms": [10, 20]}]
    try:
        correlator.append(batch([span_row(one, "1" * 32, zero_ns) for one in drawn]))
        with pytest.raises(TooBusy, match=f"trace {'1' * 32} .2 spans. is still being worked out"):
            correlator.verdict("1" * 32)
    finally:
        held[0] = False
    monkeypatch.setattr(answers, "PATIENCE_S", 60.0)
    eventually(lambda: correlator.behind() == 0, "the ledger")
    assert correlator.verdict("1" * 32) is not None
