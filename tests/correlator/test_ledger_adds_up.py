"""Whatever the spans look like, the ledger adds up.

Every example is a query over many traces at once, as in life: 6 examples of 250 traces and more, 1,500 in all;
thoroughly (``make fuzz``) 200 of them, 50,000.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spans import MS, event_row, resource, series_rows

from layerline.attributes import SPAN_FIGURES
from layerline_correlator.ledger import work as ledger
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SpanRow
from layerline_correlator.store.store import Store
from profiles import examples

TRACES = 250
HOUR = 3600 * 10**9

OWNERS = [
    resource("web", "web-1", "host-1"),
    resource("web", "web-1", "host-1", pid=2),
    resource("stock", "stock-1", "host-1"),
    resource("far", "far-1", "host-2"),
    resource("plain", None, "host-1"),
    ResourceRow("nobody", {}),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(Settings(store=tmp_path_factory.mktemp("ledger"), group_ns=0))
    yield opened
    opened.close()


def any_number(draw: random.Random, around: int) -> int | None:
    """What a sender might write into a figure: nothing, sense, nonsense."""
    return draw.choice([None, 0, draw.randrange(around + 1), draw.randrange(around + 1), -5, around * 3, 2**62])


def any_trace(draw: random.Random, number: int, zero_ns: int) -> Iterator[SpanRow]:
    """Parallel and overlapping siblings, children that outlive or precede their parents, zero lengths, rings, orphans,
    clocks that disagree, accounts that do not fit, several processes and hosts."""
    trace_id = f"{number:032x}"
    count = draw.choice([1, 2, 3, 5, 8, 13, 40])
    grid = draw.choice([1, 1000, MS])  # a coarse grid makes many ends meet
    spans: list[tuple[int, int]] = []
    for place in range(count):
        if spans and draw.random() < 0.7:
            outer_from, outer_to = draw.choice(spans)
            from_ns = outer_from + draw.randrange(-2, 10) * max(1, (outer_to - outer_from) // 8) // grid * grid
            length_ns = draw.randrange(0, 12) * max(1, (outer_to - outer_from) // 8) // grid * grid
        else:
            from_ns, length_ns = draw.randrange(0, 500) * MS, draw.choice([0, 1, draw.randrange(500) * MS, HOUR])
        spans.append((from_ns, from_ns + length_ns))
        parent = draw.choice([None, *range(count)] if draw.random() < 0.15 else [*range(place), None])
        if draw.random() < 0.03:
            parent = 10_000  # never received
        slices = None
        if draw.random() < 0.6:
            slices = [any_number(draw, length_ns) or 0 for _ in range(draw.choice([0, 1, 3, 4, 8, 12, 64]))]
        yield SpanRow(
            trace_id,
            f"{number:08x}{place + 1:08x}",
            None if parent is None else f"{number:08x}{parent + 1:08x}",
            draw.choice(OWNERS).resource,
            draw.choice(["GET /", "work", "it's; DROP TABLE span --"]),
            draw.randrange(6),
            zero_ns + from_ns,
            zero_ns + from_ns + length_ns,
            draw.randrange(3),
            draw.choice([None, 1, 2]),
            draw.choice([None, "thread", "task", "none"]),
            draw.choice([None, "generator"]),
            slices,
            tuple(any_number(draw, length_ns) for _ in SPAN_FIGURES),
            draw.choice(ATTRIBUTES),
        )


ATTRIBUTES = (
    {},
    {"server.address": "db", "server.port": "5432"},
    {"server.address": "stock-1"},
    {"url.full": "http://x:1/y?z"},
    {"layerline.samples": '["3 lock S futex_do_wait f /a.py:1","99 cpu R - g /b.py:2"]'},
    {"layerline.samples": '["nonsense", "7 pool S x y z", "-1 lock S a b c:1"]', "layerline.loop.held_by": "x"},
    {"layerline.samples": "not a list"},
)


def any_events(draw: random.Random, zero_ns: int) -> Iterator[Any]:
    """What happens to containers, in any order."""
    for name in draw.choices(("pause", "unpause", "die", "oom", "kill", "start"), k=draw.randrange(12)):
        at = draw.randrange(-500, 1000)
        container = draw.choice(["web-1", "stock-1"])
        yield event_row({"name": f"container.{name}", "container": container, "at": at}, zero_ns)


def any_readings(draw: random.Random, zero_ns: int) -> Iterator[Any]:
    """Counters that grow, stand still, fall and begin again; at any interval."""
    for signal, container, tags in (
        ("container.io.pressure", "web-1", {"pressure.kind": "some"}),
        ("container.cpu.time", "stock-1", {}),
        ("container.cpu.time", "web-1", {}),
        ("container.cpu.throttled", "web-1", {}),
        ("container.cpu.pressure", "web-1", {"pressure.kind": "some"}),
        ("container.memory.refaults", "web-1", {}),
        ("container.memory.limit_hits", "web-1", {}),
        ("container.network.tcp.retransmits", "web-1", {}),
        ("system.network.io", None, {"network.interface.name": "eth0", "network.io.direction": "transmit"}),
        ("system.network.speed", None, {"network.interface.name": "eth0"}),
        ("container.disk.io", "web-1", {"disk.io.direction": "write"}),
        ("container.disk.limit", "web-1", {"disk.io.direction": "write"}),
        ("system.cpu.time", None, {"cpu.mode": "user"}),
        ("system.cpu.logical.count", None, {}),
        ("system.disk.io_time", None, {"system.device": "vda"}),
        ("system.io.pressure", None, {"pressure.kind": "some"}),
    ):
        if draw.random() < 0.3:
            continue
        times = sorted(draw.sample(range(-2000, 3000), 20))
        value, values = 0, []
        for _ in times:
            value = draw.choice([value, value + draw.randrange(500), value + draw.randrange(50_000), 0])
            values.append(value)
        yield series_rows(
            {"signal": signal, "container": container, "tags": tags, "at": times, "values": values}, zero_ns
        )


def assert_adds_up(cursor: duckdb.DuckDBPyConnection, where: str) -> None:
    def rows(sql: str) -> list[Any]:
        return cursor.execute(sql).fetchall()

    assert not rows(
        "WITH tiles AS (SELECT request_no, from_ns, to_ns, lag(to_ns) OVER each AS before FROM segment"
        " WINDOW each AS (PARTITION BY request_no ORDER BY from_ns)) SELECT * FROM tiles JOIN entry USING (request_no)"
        " WHERE from_ns >= to_ns OR from_ns <> coalesce(before, entry.start_ns)"
    ), f"segments overlap or leave a gap: {where}"
    assert not rows(
        "SELECT request_no FROM entry LEFT JOIN segment USING (request_no) GROUP BY request_no, start_ns, end_ns"
        " HAVING coalesce(max(to_ns), start_ns) <> end_ns OR coalesce(sum(to_ns - from_ns), 0) <> end_ns - start_ns"
    ), f"segments do not reach the request's end: {where}"
    assert not rows(
        "FROM piece WHERE least(length_ns, covered_ns, cpu_ns, wait_ns, off_ns, queued_ns, dark_ns) < 0"
        " OR cpu_ns + wait_ns + off_ns + queued_ns + dark_ns <> length_ns OR covered_ns > length_ns"
    ), f"a piece does not add up: {where}"
    assert not rows(
        "SELECT piece_no, pool FROM evidence JOIN piece USING (piece_no) GROUP BY piece_no, pool"
        " HAVING sum(lost_ns) > any_value(CASE pool WHEN 'cpu' THEN cpu_ns WHEN 'wait' THEN wait_ns"
        "   WHEN 'off' THEN off_ns ELSE queued_ns END)"
    ), f"more was taken of a pool than it holds: {where}"
    assert not rows(
        "SELECT request.trace_id FROM request SEMI JOIN batch USING (trace_id) LEFT JOIN"
        " (SELECT trace_id, span_id, sum(lost_ns) AS lost FROM part GROUP BY ALL) AS parts"
        " ON parts.trace_id = request.trace_id AND parts.span_id = request.span_id"
        " WHERE unexplained_ns < 0 OR coalesce(lost, 0) + unexplained_ns <> end_ns - start_ns"
    ), f"parts and unexplained are not the duration: {where}"
    assert not rows("FROM part WHERE lost_ns < 0 OR low_ns < 0 OR low_ns > lost_ns OR lost_ns > high_ns"), where
    assert not rows("SELECT trace_id FROM batch WHERE trace_id NOT IN (SELECT trace_id FROM request)"), (
        f"a trace has no request: {where}"
    )


@settings(
    max_examples=examples(6, 200),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a seed does not shrink
)
@given(seed=st.integers(0, 2**32), traces=st.integers(TRACES, TRACES + 10))
def test_the_ledger_adds_up(store: Store, seed: int, traces: int) -> None:
    """Segments tile the request, parts and unexplained are its duration exactly, and nothing is negative."""
    draw = random.Random(seed)  # noqa: S311 - shapes of spans, not secrets
    zero_ns = time.time_ns() - 2 * HOUR
    first = draw.randrange(2**63)
    spans = [span for number in range(traces) for span in any_trace(draw, first + number, zero_ns)]
    series = list(any_readings(draw, zero_ns))
    events = list(any_events(draw, zero_ns))
    points: list[PointRow] = [point for _, _, each in series for point in each]
    store.append(
        Batch(
            resources=[*OWNERS, *(owner for owner, *_ in (*series, *events))],
            spans=spans + draw.sample(spans, len(spans) // 10),  # some are delivered twice
            series=[row for _, row, _ in series],
            points=points,
            events=[row for _, row in events],
        )
    )
    cursor = store.cursor()
    try:
        from_ns, to_ns = min(span.start_ns for span in spans), max(span.start_ns for span in spans)
        ledger.work_out(cursor, {span.trace_id for span in spans}, from_ns, to_ns)
        assert_adds_up(cursor, f"seed {seed}")
        cursor.execute("DELETE FROM span").fetchall()
        cursor.execute("DELETE FROM point").fetchall()
        cursor.execute("DELETE FROM event").fetchall()
        cursor.execute("DELETE FROM request").fetchall()
        cursor.execute("DELETE FROM part").fetchall()
    finally:
        cursor.close()
