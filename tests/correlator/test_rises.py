"""How much a counter grew by a value, and since when: one rule for ledgers, suspects, timelines and tag queries."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from layerline_correlator.store.statements import run

S = 10**9


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty store's tables and macros."""
    with duckdb.connect() as opened:
        for file in ("store/schema.sql", "facts/words.sql", "facts/readings.sql"):
            run(opened, file)
        yield opened


@pytest.mark.parametrize(
    ("kind", "ours", "start_s", "time_s", "before_s", "value", "before", "expected"),
    [
        pytest.param("cumulative", True, 0, 20, 10, 7.0, 5.0, (10, 2.0), id="it grew"),
        pytest.param("cumulative", True, 3, 10, None, 5.0, None, (3, 5.0), id="our first value: since it began"),
        pytest.param(
            "cumulative", False, 3, 10, None, 5.0, None, (None, 0.0), id="a stranger's first value: unknown since"
        ),
        pytest.param("cumulative", True, 12, 20, 10, 7.0, 5.0, (12, 7.0), id="ours began anew"),
        pytest.param("cumulative", False, 12, 20, 10, 7.0, 5.0, (10, 2.0), id="a stranger's collector began anew"),
        pytest.param("cumulative", False, 0, 20, 10, 1.0, 5.0, (10, 1.0), id="it fell: it began anew in between"),
        pytest.param("cumulative", True, 0, 20, 10, 7311.41, 7311.42, (10, 0.0), id="a tick back: it did not grow"),
        pytest.param("cumulative", False, 0, 20, 10, 51.0, 51.2, (10, 0.0), id="a stranger's, 20 ticks back"),
        pytest.param("cumulative", False, 0, 20, 10, 600.0, 1000.0, (10, 0.0), id="far back, but not to its beginning"),
        pytest.param("cumulative", True, 0, 20, 10, 0.0, 0.01, (10, 0.0), id="the only tick taken back"),
        pytest.param("cumulative", True, 0, 20, 10, 4.9, 5.0, (10, 0.0), id="ours stepped back"),
        pytest.param("cumulative", True, 12, 20, 10, 4.9, 5.0, (12, 4.9), id="ours began anew and caught up"),
        pytest.param("cumulative", False, 12, 20, 10, 7.0, 10.0, (10, 7.0), id="a stranger's began anew and fell"),
        pytest.param(
            "cumulative", False, 12, 20, 10, 51.19, 51.2, (10, 0.0), id="a tick back while its collector began anew"
        ),
        pytest.param("cumulative", False, 0, 20, 10, 7.0, 10.0, (10, 0.0), id="it fell by a third: nobody knows why"),
        pytest.param(
            "cumulative", False, 0, 20, 10, 300.0, 2.0**32 - 100, (10, 300.0), id="it wrapped: at least since zero"
        ),
        pytest.param("cumulative", False, 0, 20, 10, 300.0, 2.0**64, (10, 300.0), id="it wrapped at 64 bits"),
        pytest.param("delta", False, 10, 20, 10, 4.0, 9.0, (10, 4.0), id="a difference"),
        pytest.param("delta", False, 0, 20, 10, 4.0, 9.0, (10, 4.0), id="a difference since the last"),
        pytest.param("delta", False, 5, 20, 10, 6.0, 9.0, (10, 4.0), id="a third of it was told already"),
    ],
)
def test_a_rise(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    ours: bool,
    start_s: int,
    time_s: int,
    before_s: int | None,
    value: float,
    before: float | None,
    expected: tuple[int | None, float],
) -> None:
    """What was told twice counts once, and what was not told is not made up."""
    before_ns = None if before_s is None else before_s * S
    from_ns, rise = connection.execute(
        "SELECT rose_from($kind, $ours, $start, $before, $value, $before_value),"
        " rose_by($kind, $ours, $start, $time, $before, $value, $before_value)",
        {
            "kind": kind,
            "ours": ours,
            "start": start_s * S,
            "time": time_s * S,
            "before": before_ns,
            "value": value,
            "before_value": before,
        },
    ).fetchone() or (0, 0)
    assert from_ns == (None if expected[0] is None else expected[0] * S)
    if from_ns is not None:  # what grew since nobody knows when is not counted
        assert rise == pytest.approx(expected[1])
