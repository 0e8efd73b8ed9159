"""What several senders report of one container is counted once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, series_rows, span_row, told_after_rename, told_by_docker_stats
from test_suspects import QUIET, counter, stranger

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery

TRACE = "5a5bec76" * 4
TOLD = {"once": None, "after a rename": told_after_rename, "by docker_stats": told_by_docker_stats}


@pytest.mark.parametrize("again", TOLD.values(), ids=TOLD)
def test_a_limit_that_is_told_twice_holds_once(correlator: Correlator, again: Callable[..., Any] | None) -> None:
    """300 ms of throttled time stay 300 ms when a second series says what the CPU limit is."""
    zero_ns = a_while_ago()
    request = {
        "id": "a",
        "kind": "server",
        "container": "web-1",
        "ms": [0, 1000],
        "cpu": 100,
        "wait": 800,
        "throttled": 300,
        "usage": 100,
        "runnable": 900,
    }
    limit = {"signal": "container.cpu.limit", "container": "web-1", "at": [-2000, -1000, 0, 1000], "values": [0.5] * 4}
    series = [series_rows(limit, zero_ns)]
    if again is not None:
        series.append(again({**limit, "at": [500, 1500], "values": [0.5] * 2}, zero_ns))
    correlator.append(batch([span_row(request, TRACE, zero_ns)], series))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    parts = {part.cause: part for part in verdict.parts}
    assert set(parts) == {"app.cpu_busy", "container.cpu_throttled", "host.cpu_contended"}
    throttled = parts["container.cpu_throttled"]
    assert (throttled.lost_ns, throttled.low_ns, throttled.high_ns) == (300 * MS, 300 * MS, 300 * MS)
    assert "its limit is 0.5 CPU" in throttled.because
    assert parts["host.cpu_contended"].lost_ns == 500 * MS
    assert verdict.unexplained_ns == 100 * MS


@pytest.mark.parametrize("again", TOLD.values(), ids=TOLD)
def test_a_suspect_that_is_told_of_twice_used_what_it_used(
    correlator: Correlator, again: Callable[..., Any] | None
) -> None:
    """A neighbour's half a CPU is half a CPU, however many report its CPU time."""
    zero_ns = a_while_ago()
    rising = counter("container.cpu.time", "batch-1", [10.0] * 6 + [5_000.0] * 2)
    machine = {
        "signal": "system.cpu.time",
        "tags": {"cpu.mode": "user", "cpu.logical_number": "0"},
        "at": rising["at"],
        "values": [tick * 9_500 for tick in range(len(rising["at"]))],
    }
    series = [series_rows(drawn, zero_ns) for drawn in (QUIET, rising, machine)]
    if again is not None:
        series.append(again(rising, zero_ns))
    usual = [span_row(stranger(50), f"{n:032x}", zero_ns - (n + 2) * 1_000 * MS) for n in range(30)]
    correlator.append(batch(usual, series))
    correlator.requests(RequestQuery(from_ns=0, to_ns=zero_ns))
    correlator.append(batch([span_row(stranger(600), TRACE, zero_ns)]))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    suspect = next(one for one in verdict.suspects if one.cause == "host.cpu_contended")
    (reading,) = suspect.readings
    assert suspect.entity.id.startswith("62617463682d31")  # batch-1
    assert reading.signal == "container.cpu.time"
    assert reading.value == pytest.approx(0.5, abs=0.005)
    assert reading.usual == pytest.approx(0.001, abs=0.001)
