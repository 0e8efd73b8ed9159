"""Whatever the spans look like, the ledger adds up.

Every example is a query over many traces at once, as in life: 6 examples of 250 traces and more, 1,500 in all;
thoroughly (``make ledger``) 200 of them, 50,000. With odd ids and several tellers: 2 examples; thoroughly 40, 10,000.
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
from spans import MS, as_collector, as_renamed, container_id, event_row, resource, series_rows

from layerline.attributes import SPAN_FIGURES
from layerline_correlator.ledger import work as ledger
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import (
    CLIENT,
    CONSUMER,
    SERVER,
    Batch,
    PointRow,
    ResourceRow,
    SeriesRow,
    SpanRow,
    resource_key,
)
from layerline_correlator.store.store import Store
from profiles import examples

pytestmark = pytest.mark.long

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


#: The cgroup above one of the containers.
POD = {"layerline.cgroup": "/pod"}


def any_nesting(draw: random.Random) -> Iterator[ResourceRow]:
    """One container may run inside of the other, or each inside of the other, as nonsense has it."""
    for inner, outer in (("web-1", "stock-1"), ("stock-1", "web-1")):
        if draw.random() < 0.3:
            attributes = {
                "container.id": container_id(inner),
                "container.name": inner,
                "layerline.boot_id": "host-1",
                "layerline.container.parent": container_id(outer),
            }
            yield ResourceRow(resource_key(attributes), attributes)


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
        ("system.memory.pressure", None, {"pressure.kind": "some"}),
        ("container.ancestor.cpu.limit", "web-1", POD),
        ("container.ancestor.memory.limit", "web-1", POD),
        ("container.ancestor.memory.limit_hits", "web-1", POD),
        ("container.ancestor.disk.limit", "web-1", POD | {"disk.io.direction": "write"}),
        ("container.ancestor.disk.io", "web-1", POD | {"disk.io.direction": "write"}),
        ("container.ancestor.disk.operations.limit", "web-1", POD | {"disk.io.direction": "write"}),
        ("container.ancestor.disk.operations", "web-1", POD | {"disk.io.direction": "write"}),
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


def with_odd_ids(draw: random.Random, spans: list[SpanRow]) -> Iterator[SpanRow]:
    """The same trace with halves of calls under one id, spans that are sent again, and clocks that step back."""
    ids = [span.span_id for span in spans]
    for span in spans:
        chance = draw.random()
        if chance < 0.2:  # it takes the id of another: a half of a call, or by mistake
            span = span._replace(span_id=draw.choice(ids), kind=draw.choice([CLIENT, SERVER, CONSUMER, span.kind]))
        elif chance < 0.3:  # its caller shares its id, and began and ended at the same time or a little around it
            early = draw.choice([0, 0, MS, 300 * MS])
            yield span._replace(kind=CLIENT, resource=draw.choice(OWNERS).resource, start_ns=span.start_ns - early)
            span = span._replace(kind=draw.choice([SERVER, CONSUMER]))
        elif chance < 0.4:  # it was sent before it had ended, by itself or as somebody else
            changed = draw.choice([0, 0, 1, -MS, 3600 * 10**9])
            partly = span._replace(start_ns=span.start_ns + changed, end_ns=span.start_ns + changed)
            yield draw.choice([partly, partly._replace(resource=draw.choice(OWNERS).resource)])
        elif chance < 0.5:
            span = span._replace(end_ns=span.start_ns - draw.choice([1, 300_000, 60 * 10**9]))
        yield span


Series = tuple[ResourceRow, SeriesRow, list[PointRow]]


def told_again(draw: random.Random, series: list[Series]) -> Iterator[Series]:
    """The same by a Collector, by our agent after a container was renamed, or by both."""
    for each in series:
        for again in draw.choice([(), (as_collector,), (as_renamed,), (as_collector, as_renamed)]):
            yield again(*each)


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
        "SELECT piece_no, pool FROM evidence JOIN piece USING (piece_no) GROUP BY piece_no, pool"
        " HAVING sum(low_ns) > any_value(CASE pool WHEN 'cpu' THEN cpu_ns WHEN 'wait' THEN wait_ns"
        "   WHEN 'off' THEN off_ns ELSE queued_ns END) OR sum(lost_ns) > sum(high_ns)"
    ), f"the ranges of a pool contradict it: {where}"
    assert not rows(
        "SELECT trace_id, span_id, start_ns FROM part JOIN request USING (trace_id, span_id, start_ns)"
        " GROUP BY ALL HAVING sum(low_ns) > any_value(end_ns - start_ns)"
        " OR sum(high_ns) + any_value(unexplained_ns) < any_value(end_ns - start_ns)"
    ), f"the ranges of a request contradict its duration: {where}"
    assert not rows(
        "SELECT request.trace_id FROM request SEMI JOIN batch USING (trace_id) LEFT JOIN"
        " (SELECT trace_id, span_id, start_ns, sum(lost_ns) AS lost FROM part GROUP BY ALL) AS parts"
        " ON parts.trace_id = request.trace_id AND parts.span_id = request.span_id"
        " AND parts.start_ns = request.start_ns"
        " WHERE unexplained_ns < 0 OR coalesce(lost, 0) + unexplained_ns <> end_ns - request.start_ns"
    ), f"parts and unexplained are not the duration: {where}"
    assert not rows("FROM part WHERE lost_ns < 0 OR low_ns < 0 OR low_ns > lost_ns OR lost_ns > high_ns"), where
    assert not rows("SELECT trace_id FROM batch WHERE trace_id NOT IN (SELECT trace_id FROM request)"), (
        f"a trace has no request: {where}"
    )
    assert not rows("SELECT trace_id, span_id, start_ns FROM request GROUP BY ALL HAVING count(*) > 1"), (
        f"a request is there twice: {where}"
    )
    assert not rows("FROM node QUALIFY count(*) OVER (PARTITION BY span_no) > 1"), f"a span has two parents: {where}"
    assert not rows("FROM refused"), f"a ledger had to be refused: {where}"


RECEIVED = ("hot_span", "hot_point", "event")
WORKED_OUT = ("request", "part", "blind_spot", "stay", "refused")


def forget(cursor: duckdb.DuckDBPyConnection, *tables: str) -> None:
    """Empty these tables: no example may see another's requests, of which the usual is made."""
    for table in tables:
        cursor.execute(f"DELETE FROM {table}").fetchall()


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
            resources=[*OWNERS, *(owner for owner, *_ in (*series, *events)), *any_nesting(draw)],
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
        forget(cursor, *RECEIVED, *WORKED_OUT)
    finally:
        cursor.close()


@settings(
    max_examples=examples(2, 40),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a seed does not shrink
)
@given(seed=st.integers(0, 2**32))
def test_the_ledger_adds_up_whatever_ids_are_shared_and_whoever_tells(store: Store, seed: int) -> None:
    """With halves under one id, spans sent again and clocks that step back it adds up, and it stays the same to the
    nanosecond when a second teller reports the same readings."""
    draw = random.Random(seed)  # noqa: S311 - shapes of spans, not secrets
    zero_ns = time.time_ns() - 2 * HOUR
    first = draw.randrange(2**63)
    spans = [
        span for number in range(TRACES) for span in with_odd_ids(draw, list(any_trace(draw, first + number, zero_ns)))
    ]
    series = list(any_readings(draw, zero_ns))
    events = list(any_events(draw, zero_ns))
    again = list(told_again(draw, series))
    half = len(spans) // 2  # some are sent again in the same batch, some in the next
    with store.cursor() as cursor:
        store.append(Batch(resources=OWNERS, spans=spans[:half]))
        store.append(
            Batch(
                resources=[*OWNERS, resource(None), *(owner for owner, *_ in (*series, *events)), *any_nesting(draw)],
                spans=spans[half:] + draw.sample(spans, len(spans) // 10),
                series=[row for _, row, _ in series],
                points=[point for _, _, each in series for point in each],
                events=[row for _, row in events],
            )
        )
        bounds = min(span.start_ns for span in spans), max(span.start_ns for span in spans)
        ledger.work_out(cursor, {span.trace_id for span in spans}, *bounds)
        assert_adds_up(cursor, f"seed {seed}")
        before = ledgers(cursor)
        forget(cursor, *WORKED_OUT)
        store.append(
            Batch(
                resources=[owner for owner, *_ in again],
                series=[row for _, row, _ in again],
                points=[point for _, _, each in again for point in each],
            )
        )
        ledger.work_out(cursor, {span.trace_id for span in spans}, *bounds)
        assert_adds_up(cursor, f"seed {seed}, told twice")
        assert ledgers(cursor) == before, f"a second teller changed a ledger: seed {seed}"
        forget(cursor, *RECEIVED, *WORKED_OUT)


def ledgers(cursor: duckdb.DuckDBPyConnection) -> list[Any]:
    """Every request with its parts."""
    return cursor.execute(
        "SELECT trace_id, span_id, start_ns, end_ns, unexplained_ns, part.cause, part.service, entity_type, entity_id,"
        " lost_ns, low_ns, high_ns, inferred FROM request LEFT JOIN part USING (trace_id, span_id, start_ns)"
        " ORDER BY ALL"
    ).fetchall()
