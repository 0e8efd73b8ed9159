"""What a store holds after its server has ended, beside what had been acknowledged.

The store is looked at in a copy: opening it would do what the server has to do when it starts again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from senders import METRIC, Acknowledged

from layerline_correlator.store.sealed import renew_views
from layerline_correlator.store.version import has_table

#: Queries that must find nothing in any store, whatever it was sent.
NEVER = {
    "requests whose parts and what is unexplained do not add up to their duration": """
        SELECT request.trace_id, request.span_id, parts.lost_ns, unexplained_ns, end_ns - start_ns
        FROM request
        LEFT JOIN (SELECT trace_id, span_id, start_ns, sum(lost_ns) AS lost_ns FROM part GROUP BY ALL) AS parts
            USING (trace_id, span_id, start_ns)
        WHERE coalesce(parts.lost_ns, 0)::HUGEINT + unexplained_ns <> end_ns::HUGEINT - start_ns""",
    "parts that are negative, or outside of their range": """
        SELECT trace_id, span_id, cause, low_ns, lost_ns, high_ns
        FROM part
        WHERE lost_ns < 0 OR low_ns < 0 OR low_ns > lost_ns OR lost_ns > high_ns""",
    "requests of which a negative time is unexplained":
        "SELECT trace_id, span_id, unexplained_ns FROM request WHERE unexplained_ns < 0",
    # A call that nobody called, and who answered it under the same id, are two requests: they began at different times.
    "requests that are there twice":
        "SELECT trace_id, span_id, start_ns, count(*) FROM request GROUP BY ALL HAVING count(*) > 1",
    "spans of one sender that are there twice":
        "SELECT trace_id, span_id, kind, resource, count(*) FROM span GROUP BY ALL HAVING count(*) > 1",
    "points that are there twice":
        "SELECT series, time_ns, count(*) FROM point GROUP BY ALL HAVING count(*) > 1",
    "events that are there twice":
        "SELECT resource, time_ns, name, body, count(*) FROM event GROUP BY ALL HAVING count(*) > 1",
    "points of series that are not there":
        "SELECT series, count(*) FROM point ANTI JOIN series USING (series) GROUP BY ALL",
    "spans and series of senders that are not there": """
        SELECT resource, count(*)
        FROM (SELECT resource FROM span UNION ALL SELECT resource FROM series) ANTI JOIN resource USING (resource)
        GROUP BY ALL""",
    "parts of requests that are not there": """
        SELECT trace_id, span_id, cause FROM part
        WHERE NOT EXISTS (
            FROM request
            WHERE request.trace_id = part.trace_id AND request.span_id = part.span_id
              AND request.start_ns = part.start_ns)""",
}  # fmt: skip


@contextmanager
def opened(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A copy of this store."""
    with tempfile.TemporaryDirectory(prefix="layerline-kept-") as folder:
        copy = Path(shutil.copytree(store, Path(folder) / "store"))
        with duckdb.connect(str(copy / "hot.duckdb")) as database:
            if has_table(database, "sealed_file"):
                renew_views(database, copy)  # it names files by where they were
            yield database


def problems(store: Path, known: Acknowledged, since_ns: int = 0, worked_out: bool = False) -> list[str]:
    """What is wrong with a store: one line for each kind, with a few examples; empty where nothing is.

    What is older than ``since_ns`` may have been deleted. ``worked_out``: each trace must have its requests, too.
    """
    with opened(store) as database:
        found = [*_not_once(database, known, since_ns), *never(database)]
        if worked_out:
            alone = database.execute(
                "SELECT DISTINCT trace_id FROM span WHERE trace_id NOT IN (SELECT trace_id FROM request)"
            ).fetchall()
            found += _line("traces without a request", alone)
    # What waited for a server for longer than data is kept may be refused for its age.
    wrong = [said for said in known.wrong if not (since_ns and "older than what is kept" in said)]
    return found + _line("answers that valid data must not get", wrong)


def never(database: duckdb.DuckDBPyConnection) -> list[str]:
    """What no store may hold."""
    return [line for what, query in NEVER.items() for line in _line(what, database.execute(query).fetchall())]


def _not_once(database: duckdb.DuckDBPyConnection, known: Acknowledged, since_ns: int) -> Iterator[str]:
    """Acknowledged, and not there exactly once with the value that was sent."""
    spans = Counter(database.execute("SELECT trace_id, span_id FROM span").fetchall())
    missing = [span for span, start_ns in known.spans.items() if start_ns >= since_ns and span not in spans]
    yield from _line(f"of {len(known.spans)} acknowledged spans are missing", missing)
    yield from _line("acknowledged spans are there twice", [span for span in known.spans if spans[span] > 1])
    points: dict[tuple[str, int], float] = {}
    twice = []
    for container_id, time_ns, value in database.execute(
        "SELECT entity_id, time_ns, value FROM point JOIN series USING (series) WHERE signal = $signal",
        {"signal": METRIC},
    ).fetchall():
        if (container_id, time_ns) in points:
            twice.append((container_id, time_ns))
        points[container_id, time_ns] = value
    fresh = {point: value for point, value in known.points.items() if point[1] >= since_ns}
    yield from _line(f"of {len(fresh)} acknowledged points are missing", fresh.keys() - points.keys())
    yield from _line("acknowledged points are there twice", [point for point in twice if point in known.points])
    ratios = {points[point] / value for point, value in fresh.items() if point in points}
    if len(ratios) > 1 and max(ratios) / min(ratios) > 1 + 1e-9:  # stored in a unit of our own, the same for all
        yield f"points have other values than those that were sent, by {min(ratios)} to {max(ratios)}"
    told = Counter(database.execute("SELECT name, time_ns FROM event").fetchall())
    missing_events = [event for event in known.events if event[1] >= since_ns and event not in told]
    yield from _line(f"of {len(known.events)} acknowledged events are missing", missing_events)


def _line(what: str, found: Any) -> list[str]:
    examples = list(found)
    return [f"{len(examples)} {what}: {examples[:3]}"] if examples else []
