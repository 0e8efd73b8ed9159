"""Samples for those who calculate with them: bins of time add up to what there is, however long the window is."""

from __future__ import annotations

import pytest
from spans import a_while_ago, batch, container_id, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.samples import (
    MOST_BINS,
    bin_of,
    read_latency_samples,
    read_lost_samples,
    read_matching,
    read_reading_samples,
    read_request_samples,
    read_series,
    read_signals,
)

S, HOUR = 10**9, 3600 * 10**9


def fill(correlator: Correlator) -> int:
    """Ten requests of 100 ms and readings, half an hour ago."""
    zero_ns = a_while_ago(1800) // (60 * S) * 60 * S
    drawn = [
        ({"id": "a", "kind": "server", "name": "GET /", "ms": [at, at + 100], "cpu": 30, "container": "web-1"}, at)
        for at in range(0, 10_000, 1_000)
    ]
    spans = [span_row(one, f"{at + 1:032x}", zero_ns) for one, at in drawn]
    at = list(range(0, 60_000, 1_000))
    readings = [
        {"signal": "container.cpu.time", "container": "web-1", "at": at, "values": [one // 10 for one in at]},
        {"signal": "container.memory.working_set", "container": "web-1", "at": at, "values": [7 for _ in at]},
    ]
    correlator.append(batch(spans, [series_rows(one, zero_ns) for one in readings]))
    return zero_ns


@pytest.mark.parametrize("longer_ns", [0, 5 * HOUR])
def test_bins_add_up(correlator: Correlator, longer_ns: int) -> None:
    """By the second and by the minute: as many requests, as much time, as much CPU time."""
    zero_ns = fill(correlator)
    from_ns, to_ns = zero_ns - longer_ns, zero_ns + 120 * S
    bin_ns = bin_of(from_ns, to_ns)
    window = from_ns, to_ns, bin_ns
    found = {one.name: one for one in correlator.ask(read_request_samples, *window)}
    assert found["requests"].labels == (("operation", "GET /"), ("service", "web"))
    assert sum(found["requests"].amounts) == 10
    assert sum(found["seconds"].amounts) == pytest.approx(1.0)
    bounds = correlator.ask(read_latency_samples, *window, [50_000_000, 200_000_000])
    assert [(one.name, sum(one.amounts)) for one in bounds] == [("bound 1", 10)]
    lost = correlator.ask(read_lost_samples, *window)
    assert sum(sum(one.amounts) for one in lost) == pytest.approx(1.0)
    (cpu,) = correlator.ask(read_reading_samples, ["container.cpu.time"], *window)
    assert sum(cpu.amounts) == pytest.approx(5.9e9, rel=0.02)
    assert dict(cpu.labels)["container"] == "web-1"
    (memory,) = correlator.ask(read_reading_samples, ["container.memory.working_set"], *window)
    assert memory.is_level
    assert set(memory.amounts) == {7.0}


def test_what_is_read_and_of_whom(correlator: Correlator) -> None:
    """Signals and their series are listed without a look at any value."""
    fill(correlator)
    assert correlator.ask(read_signals) == ["container.cpu.time", "container.memory.working_set"]
    (one,) = correlator.ask(read_series, ["container.cpu.time"])
    assert dict(one.labels) == {"container": "web-1", "container_id": container_id("web-1"), "host": "host-1"}


def test_expressions_match_whole_texts(correlator: Correlator) -> None:
    """A regular expression must match all of a text."""
    assert correlator.ask(read_matching, "we.|x", ["web", "webs", "x", ""]) == {"web", "x"}


@pytest.mark.parametrize("length_ns", [S, HOUR, 2 * HOUR, 24 * HOUR, 90 * 24 * HOUR, 10**18 * 5])
def test_bins_are_few(length_ns: int) -> None:
    """However long a window is, it has at most so many bins; a window above an hour is read by the minute."""
    bin_ns = bin_of(0, length_ns)
    assert length_ns // bin_ns <= MOST_BINS
    assert length_ns <= HOUR or bin_ns % (60 * S) == 0
