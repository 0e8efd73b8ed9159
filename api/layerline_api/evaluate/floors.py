"""The floors: what the simplest rules say about the same data. On public data they do as well as most papers.

Neither looks at a request, or knows a cause. ``largest_cpu`` names the entity whose CPU figures moved farthest from
what they were before, in standard deviations; ``largest_gap`` the service behind the call whose time on the way and in
the queue grew most.
"""

from __future__ import annotations

import duckdb

from layerline_api.evaluate.score import Named
from layerline_correlator.entity import Naming

#: How long before the window is taken for healthy, at most.
BEFORE_NS = 3600 * 10**9

_CPU = """
WITH
measured AS (
    SELECT series.entity_type, series.entity_id, point.series, point.time_ns,
           CASE series.kind
               WHEN 'gauge' THEN value
               WHEN 'delta' THEN value / nullif(time_ns - lag(time_ns) OVER each, 0)
               ELSE (value - lag(value) OVER each) / nullif(time_ns - lag(time_ns) OVER each, 0)
           END AS figure
    FROM point JOIN series USING (series)
    WHERE contains(lower(series.signal), 'cpu') AND NOT contains(lower(series.signal), 'limit')
      AND series.entity_id IS NOT NULL
      AND time_ns >= $before_ns AND time_ns < $to_ns
    WINDOW each AS (PARTITION BY point.series ORDER BY time_ns)
),
moved AS (
    SELECT
        entity_type, entity_id, series,
        avg(figure) FILTER (time_ns >= $from_ns) AS now, avg(figure) FILTER (time_ns < $from_ns) AS before,
        stddev_samp(figure) FILTER (time_ns < $from_ns) AS spread, count(*) FILTER (time_ns < $from_ns) AS known
    FROM measured WHERE figure >= 0 GROUP BY ALL
)
SELECT entity_type, entity_id, max(abs(now - before) / (spread + 0.01 * abs(before) + 1e-12)) AS score
FROM moved WHERE now IS NOT NULL AND known >= 3 GROUP BY ALL ORDER BY score DESC, entity_id LIMIT 3
"""

_GAP = """
SELECT callee, avg(gap_ns) FILTER (start_ns >= $from_ns) - avg(gap_ns) FILTER (start_ns < $from_ns) AS grown_ns
FROM calls_in($before_ns, $to_ns) WHERE callee <> ''
GROUP BY caller, callee HAVING grown_ns IS NOT NULL ORDER BY grown_ns DESC, callee LIMIT 3
"""


def largest_cpu(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, name: Naming) -> tuple[Named, ...]:
    """The three entities with the largest z-score of any CPU figure in the window."""
    rows = cursor.execute(_CPU, _bounds(from_ns, to_ns)).fetchall()
    found = [name(kind, identity) for kind, identity, _ in rows]
    return tuple(Named("", one.type, one.id, one.name) for one in found)


def largest_gap(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, name: Naming) -> tuple[Named, ...]:
    """The services behind the three calls whose gap grew most, against the time before the window."""
    rows = cursor.execute(_GAP, _bounds(from_ns, to_ns)).fetchall()
    return tuple(Named("", "service", callee, callee, callee) for callee, _ in rows)


FLOORS = {"largest CPU z-score": largest_cpu, "largest gap change": largest_gap}


def _bounds(from_ns: int, to_ns: int) -> dict[str, int]:
    return {"from_ns": from_ns, "to_ns": to_ns, "before_ns": max(0, from_ns - BEFORE_NS)}
