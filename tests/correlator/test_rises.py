"""How much a counter grew by a value, and since when: one rule for ledgers, suspects, timelines and tag queries."""

from __future__ import annotations

import duckdb
import pytest

from layerline_correlator.store.statements import run

S = 10**9


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
        pytest.param("delta", False, 10, 20, 10, 4.0, 9.0, (10, 4.0), id="a difference"),
        pytest.param("delta", False, 0, 20, 10, 4.0, 9.0, (10, 4.0), id="a difference since the last"),
        pytest.param("delta", False, 5, 20, 10, 6.0, 9.0, (10, 4.0), id="a third of it was told already"),
    ],
)
def test_a_rise(
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
    with duckdb.connect() as connection:
        run(connection, "store/schema.sql")
        run(connection, "facts/words.sql")
        run(connection, "facts/readings.sql")
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
