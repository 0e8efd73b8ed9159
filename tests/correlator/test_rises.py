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


def test_only_what_touches_a_time_is_what_all_readings_say_of_it(connection: duckdb.DuckDBPyConnection) -> None:
    """A series of which little is wanted says the same of that time, and is heard as if all of it were wanted."""
    connection.execute("DELETE FROM resource; DELETE FROM series; DELETE FROM hot_point")
    connection.execute(
        "INSERT INTO resource BY NAME SELECT resource, map_from_entries(attributes) AS attributes FROM (VALUES"
        " ('agent', [('layerline.boot_id', 'b')]), ('other', [('host.name', 'h')])) AS drawn(resource, attributes)"
    )
    connection.execute(
        "INSERT INTO series BY NAME SELECT *, 'ns' AS unit, 'cumulative' AS kind, 'container' AS entity_type,"
        " 'h' AS host, MAP {'cpu': series} AS attributes FROM (VALUES"
        " ('web by agent', 'agent', 'container.cpu.time', 'web', NULL),"  # one sender stopped early: the other is heard
        " ('web by other', 'other', 'container.cpu.time', 'web', NULL),"
        " ('cpu 0', 'agent', 'container.cpu.time', 'stock', MAP {'all': 'of it'}),"  # parts of one figure
        " ('cpu 1', 'agent', 'container.cpu.time', 'stock', MAP {'all': 'of it'}),"
        " ('read', 'agent', 'container.disk.io', 'web', NULL)) AS drawn(series, resource, signal, entity_id, part_of)"
    )
    connection.execute(
        "INSERT INTO hot_point BY NAME"
        " SELECT series, 0 AS start_ns, (5 + tick * 10) * $s::BIGINT AS time_ns, tick * tick AS value"
        " FROM series, range(12) AS ticks(tick) WHERE series <> 'web by agent' OR tick < 3",
        {"s": S},
    )

    def readings(brief: list[str], near_s: tuple[int, int] = (0, 0)) -> list[tuple[str, int, int, float]]:
        return connection.execute(
            "SELECT line, from_ns // $s, to_ns // $s, rise"
            " FROM readings_of((SELECT list(series) FROM series), 0, 1000 * $s::BIGINT, brief := $brief,"
            " near_from := $from, near_to := $to) ORDER BY ALL",
            {"s": S, "brief": brief, "from": near_s[0] * S, "to": near_s[1] * S},
        ).fetchall()

    whole = readings([])
    assert {line for line, *_ in whole} == {"web by other", "cpu 0", "read"}
    assert {rise for line, from_s, _, rise in whole if line == "cpu 0" and from_s == 45} == {2 * 9.0}
    for brief in (["web by agent", "web by other"], ["cpu 0", "cpu 1", "read"]):
        for first_s, last_s in ((0, 1000), (40, 41), (45, 55), (200, 300)):
            assert readings(brief, (first_s, last_s)) == [
                (line, from_s, to_s, rise)
                for line, from_s, to_s, rise in whole
                if line not in brief or (to_s > first_s and from_s < last_s)
            ]
