"""What is summed up per minute and quarter: questions answer as from every row, whatever came late or is gone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from spans import a_while_ago, as_collector, as_renamed, batch, event_row, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.questions import coverage, entities, lives, services, timeline
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch
from layerline_correlator.store.stale import MINUTE_NS, QUARTER
from layerline_correlator.summaries.cover import VIEWS, cover
from layerline_correlator.summaries.summing import Summing
from layerline_correlator.verdict import failures
from waiting import eventually

S, MINUTES = 10**9, 6
#: Durations are counted in classes of 1 %.
CLOSE = 0.006


def carts(first: int, number: int, zero_ns: int, seed: int, longer_ms: float = 0, every_ms: int = 2_000) -> Batch:
    """A cart every two seconds: web asks stock, stock asks a database. Some fail, some last over a minute's end."""
    draw, rows = random.Random(seed), []  # noqa: S311 - nobody guesses these
    for cart in range(first, first + number):
        at, took = cart * every_ms + 1_950 * draw.random(), 40 + 60 * draw.random() + longer_ms
        web, stock = {"service": "web", "container": "web-1"}, {"service": "stock", "container": "stock-1"}
        db = {"attributes": {"server.address": "db", "server.port": "5432"}}
        end, each = at + took, f"{cart}"
        drawn: list[dict[str, Any]] = [
            {
                "id": f"a{each}",
                "kind": "server",
                "name": f"GET /{cart % 3}",
                "ms": [at, end],
                "cpu": 5,
                "wait": 1,
                **web,
            },
            {"id": f"b{each}", "parent": f"a{each}", "kind": "client", "ms": [at + 2, end - 2], "cpu": 0, **web},
            {"id": f"c{each}", "parent": f"b{each}", "kind": "server", "ms": [at + 3, end - 3], "cpu": 9, **stock},
            {"id": f"d{each}", "parent": f"c{each}", "kind": "client", "ms": [at + 9, end - 9], **db, **stock},
        ]
        for span in drawn:
            owner, row = span_row(span, f"{cart + 1:032x}", zero_ns)
            rows.append((owner, row._replace(status=2) if cart % 11 == 0 and span["id"][0] in "ac" else row))
    return batch(rows)


def readings(zero_ns: int, minutes: int = MINUTES, every_ms: int = 1_000) -> Batch:
    """Counters and levels each second, some also from a Collector; a hole, a restart, a container that was renamed."""
    every = [at for at in range(0, minutes * 60_000, every_ms) if not 130_000 < at < 171_000]
    again = 245_500
    since = [0 if at < again else again for at in every]
    cpu = [(at - begun) * 0.3 for at, begun in zip(every, since, strict=True)]
    of_web = {"container": "web-1", "at": every}
    memory = [1e8 + 1e4 * (at % 7_000) for at in every]
    late = [at for at in every if at > 300_000]
    early = [at for at in every if at <= 300_000]
    slow = list(range(0, minutes * 60_000, 15_000))
    throttled = {"container": "stock-1", "signal": "container.cpu.throttled"}
    series = [
        series_rows({"signal": "container.cpu.time", "values": cpu, **of_web}, zero_ns),
        series_rows({"signal": "container.memory.working_set", "values": memory, **of_web}, zero_ns),
        as_collector(*series_rows({**of_web, "signal": "container.cpu.time", "at": slow, "values": slow}, zero_ns)),
        series_rows({**throttled, "at": early, "values": [at * 0.01 for at in early]}, zero_ns),
        as_renamed(*series_rows({**throttled, "at": late, "values": [at * 0.01 for at in late]}, zero_ns)),
        series_rows({"signal": "system.cpu.logical.count", "at": slow, "values": [2 for _ in slow]}, zero_ns),
        series_rows({"signal": "system.cpu.time", "at": slow, "values": slow, "tags": {"cpu.mode": "user"}}, zero_ns),
    ]
    turns = [("container.die", again - 900), ("container.start", again)]
    events = [event_row({"name": name, "container": "web-1", "at": at}, zero_ns) for name, at in turns]
    return batch([], series, events)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure of an answer with its place."""
    if is_dataclass(value):
        for field in fields(value):
            yield from flat(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from flat(one, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from flat(one, f"{path}[{number}]")
    else:
        yield path, value


def named(kind: str, identity: str) -> Entity:
    return Entity(kind, identity, identity)


def asked(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, step_ns: int = MINUTE_NS) -> dict[str, Any]:
    """All questions that read summaries. The window begins and ends within minutes."""
    middle_ns = (from_ns + to_ns) // 2
    return {
        "failing": failures.read_failing(
            cursor,
            failures.Times(middle_ns + 7 * S, to_ns, from_ns, middle_ns),
            "service = $service",
            {"service": "web"},
            named,
        ),
        "services": services.read_service_map(cursor, from_ns, to_ns),
        "entities": entities.read_entities(cursor, entities.EntityQuery(from_ns, to_ns, limit=100)),
        "coverage": coverage.read_coverage(cursor, named, from_ns, to_ns),
        "timeline": timeline.read_timeline(cursor, timeline.TimelineQuery(from_ns, to_ns, step_ns=step_ns), named),
        "timeline of stock": timeline.read_timeline(
            cursor, timeline.TimelineQuery(from_ns, to_ns, service="stock", step_ns=2 * step_ns), named
        ),
    }


def row_by_row(patch: pytest.MonkeyPatch) -> None:
    """From now on questions read every row."""

    def never_summed(*window: Any, **more: Any) -> None:
        cover(*window, **(more | {"summed": False}))

    for module in (services, entities, lives, coverage, timeline):
        patch.setattr(module, "cover", never_summed)
    patch.setattr(timeline, "BY_MINUTE", timeline.BY_ROW)
    patch.setattr(failures, "LONG_NS", 2**63)


def answers(correlator: Correlator, zero_ns: int, minutes: int = MINUTES, step_ns: int = MINUTE_NS) -> dict[str, Any]:
    """All figures by their places."""
    with correlator._store.cursor() as cursor:
        found = asked(cursor, zero_ns + 20 * S, zero_ns + minutes * MINUTE_NS - 17 * S, step_ns)
    return dict(flat(found))


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same figures in the same places; durations as close as their classes are."""
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert found[place] == pytest.approx(value, rel=CLOSE), place
        else:
            assert found[place] == value, place


@pytest.fixture
def kept(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> Correlator:
    """A correlator that sums up when it is told to; long is every window."""
    correlator.summing.stop()
    for module in (services, failures):
        monkeypatch.setattr(module, "LONG_NS", 0)
    return correlator


def worked_out(correlator: Correlator) -> None:
    while correlator.behind():
        correlator.look_for_incidents()


def rows_in(correlator: Correlator, table: str) -> int:
    with correlator._store.cursor() as cursor:
        return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def test_minutes_answer_as_rows_do(kept: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes answer as rows do: when all is summed up, when something came late or was replaced, and when deleted."""
    zero_ns = a_while_ago(3600) // MINUTE_NS * MINUTE_NS
    kept.append(readings(zero_ns))
    kept.append(carts(0, MINUTES * 30, zero_ns, 7))
    worked_out(kept)

    def from_rows() -> dict[str, Any]:
        with monkeypatch.context() as patch:
            row_by_row(patch)
            return answers(kept, zero_ns)

    expected = from_rows()
    assert kept.summing.catch_up() >= 3 * MINUTES
    assert rows_in(kept, "stale_minute") == 0
    same(answers(kept, zero_ns), expected)

    kept.append(carts(60, 3, zero_ns, 8, longer_ms=400))  # the same spans, some of them longer
    kept.append(carts(MINUTES * 30 + 5, 1, zero_ns - 10 * 60 * S, 7))  # late, and before the window
    memory = {"signal": "container.memory.working_set", "container": "web-1"}
    kept.append(batch([], [series_rows({**memory, "at": [140_500, 150_250], "values": [2e8, 3e8]}, zero_ns)]))
    worked_out(kept)
    expected = from_rows()
    assert rows_in(kept, "stale_minute") > 0
    same(answers(kept, zero_ns), expected)  # late rows are read beside the minutes
    kept.summing.catch_up()
    same(answers(kept, zero_ns), expected)  # the minutes were corrected

    kept._delete(zero_ns + 130 * S + 1)
    expected = from_rows()
    same(answers(kept, zero_ns), expected)
    kept.summing.catch_up()
    same(answers(kept, zero_ns), expected)
    with kept._store.cursor() as cursor:
        first = cursor.execute("SELECT min(minute) FROM request_minute").fetchall()[0][0]
    assert first >= zero_ns // MINUTE_NS + 2, "deleted minutes have no summaries"


def test_quarters_answer_as_rows_do(kept: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarters of an hour answer as rows do: also when something came late, and when some of one was deleted."""
    minutes, quarter_ns = 35, QUARTER * MINUTE_NS
    zero_ns = a_while_ago(7200) // quarter_ns * quarter_ns
    for module in (services, entities, lives, coverage):
        monkeypatch.setattr(module, "DAY_PART_NS", 0)
    kept.append(readings(zero_ns, minutes, every_ms=5_000))
    kept.append(carts(0, minutes * 2, zero_ns, 7, every_ms=30_000))
    worked_out(kept)

    def from_rows() -> dict[str, Any]:
        with monkeypatch.context() as patch:
            row_by_row(patch)
            return answers(kept, zero_ns, minutes, quarter_ns)

    kept.summing.catch_up()
    with kept._store.cursor() as cursor:
        cover(cursor, "request", zero_ns, zero_ns + minutes * MINUTE_NS, quarters=True)
        read = cursor.execute("SELECT DISTINCT minute FROM request_summed ORDER BY minute").fetchall()
    first = zero_ns // MINUTE_NS
    assert [minute - first for (minute,) in read] == [0, 15, 30, 31, 32, 33, 34], "the window cuts the last"
    same(answers(kept, zero_ns, minutes, quarter_ns), from_rows())

    memory = {"signal": "container.memory.working_set", "container": "web-1"}
    kept.append(batch([], [series_rows({**memory, "at": [1_203_500, 1_250_250], "values": [2e8, 3e8]}, zero_ns)]))
    kept.append(carts(40, 1, zero_ns, 8, longer_ms=400, every_ms=30_000))
    worked_out(kept)
    expected = from_rows()
    same(answers(kept, zero_ns, minutes, quarter_ns), expected)  # what came late is read beside the quarters
    kept.summing.catch_up()
    same(answers(kept, zero_ns, minutes, quarter_ns), expected)  # the quarters were corrected

    kept._delete(zero_ns + 10 * MINUTE_NS + 1)
    kept.summing.catch_up()
    same(answers(kept, zero_ns, minutes, quarter_ns), from_rows())


def test_a_series_that_was_not_read_steadily_keeps_its_minutes(kept: Correlator) -> None:
    """In a quarter a series is one row if it was read steadily; one that nobody read for minutes keeps its minutes."""
    zero_ns = a_while_ago(7200) // (QUARTER * MINUTE_NS) * QUARTER * MINUTE_NS
    every = list(range(0, 15 * 60_000, 10_000))
    drawn = {"steady": every, "away": [at for at in every if not 300_000 < at < 480_000]}
    series = [
        series_rows({"signal": "container.cpu.time", "container": name, "at": at, "values": at}, zero_ns)
        for name, at in drawn.items()
    ]
    kept.append(batch([], series))
    kept.summing.catch_up()

    def summed(series: str) -> list[tuple[int, ...]]:
        with kept._store.cursor() as cursor:
            return cursor.execute(
                "SELECT points, step_ns, last_ns - first_ns, rise FROM point_quarter WHERE series = $series",
                {"series": series},
            ).fetchall()

    steady, away = (summed(row.series) for _, row, _ in series)
    assert steady == [(90, 10 * S, 890 * S, 890e9)]
    assert len(away) == 13, "two minutes have no value"


def test_edges_and_parts_add_up(kept: Correlator) -> None:
    """The minutes of a window hold its requests, their whole durations, and calls with what was under way."""
    zero_ns = a_while_ago(3600) // MINUTE_NS * MINUTE_NS
    kept.append(carts(0, 90, zero_ns, 3))
    worked_out(kept)
    kept.summing.catch_up()
    with kept._store.cursor() as cursor:
        rows = cursor.execute("SELECT count(*), sum(end_ns - start_ns), count(*) FILTER (status = 2) FROM request")
        requests, duration_ns, errors = rows.fetchall()[0]
        summed = cursor.execute(
            "SELECT sum(requests), sum(duration_ns), sum(errors), sum(list_sum(map_values(durations)))"
            " FROM request_minute"
        ).fetchall()[0]
        assert summed == (requests, duration_ns, errors, requests)
        lost_ns = cursor.execute("SELECT sum(lost_ns) FROM part_minute").fetchall()[0][0]
        assert lost_ns == pytest.approx(duration_ns), "parts and what is unexplained make up the durations"
        edges = cursor.execute(
            "SELECT caller, callee_type, callee, sum(calls), sum(answered), sum(gap_ns) / sum(answered)"
            " FROM edge_minute GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert [edge[:5] for edge in edges] == [
        ("stock", "dependency", "db:5432", 90, 0),
        ("web", "service", "stock", 90, 90),
    ]
    assert edges[1][5] == pytest.approx(2e6, rel=1e-3), "a call takes 2 ms longer than its answer"


def test_what_is_written_meanwhile_stays_noted(kept: Correlator) -> None:
    """A row that is committed while its minute is summed up leaves the minute to be summed up again."""
    zero_ns = a_while_ago(3600) // MINUTE_NS * MINUTE_NS

    def point(at: int) -> Batch:
        drawn = {"signal": "container.memory.working_set", "container": "web-1", "at": [at], "values": [at]}
        return batch([], [series_rows(drawn, zero_ns)])

    kept.append(point(1_000))

    class Interrupted(Summing):
        def _sum_up(self, kind: str, minutes: list[int]) -> None:
            kept.append(point(2_000))
            super()._sum_up(kind, minutes)

    Interrupted(kept._store.cursor(), kept._store.disk, kept._store.threads)._of_kind("point", zero_ns + 10**15 * 9)
    assert rows_in(kept, "stale_minute WHERE kind = 'point'") > 0
    kept.summing.catch_up()
    with kept._store.cursor() as cursor:
        assert cursor.execute("SELECT points, highest FROM point_minute").fetchall() == [(2, 2000.0)]


@pytest.mark.parametrize("spans", [1, 3_000])
def test_figures_that_nobody_can_have_are_summed_up(kept: Correlator, spans: int) -> None:
    """Senders may write any number: the minute has its summary all the same, and containers their answer."""
    zero_ns = a_while_ago(3600) // MINUTE_NS * MINUTE_NS
    drawn = {"id": "a", "kind": "server", "name": "GET /", "ms": [0, 5], "service": "web", "container": "web-1"}
    owner, row = span_row(drawn, f"{1:032x}", zero_ns)
    largest = row._replace(figures=tuple(2**63 - 1 for _ in row.figures))
    kept.append(batch([(owner, largest._replace(span_id=f"{number + 1:016x}")) for number in range(spans)]))
    kept.summing.catch_up()
    assert rows_in(kept, "span_minute") == 1
    assert rows_in(kept, "stale_minute WHERE kind = 'span'") == 0
    with kept._store.cursor() as cursor:
        assert lives.read_lives(cursor, zero_ns, zero_ns + MINUTE_NS)


def test_a_minute_that_cannot_be_summed_up_holds_up_no_other(
    kept: Correlator, caplog: pytest.LogCaptureFixture
) -> None:
    """Its neighbours are summed up, it is named once, and nothing of it is lost: questions read its rows."""
    zero_ns = a_while_ago(3600) // MINUTE_NS * MINUTE_NS
    odd = zero_ns // MINUTE_NS + 2
    kept.append(readings(zero_ns, minutes=5))

    class Stumbling(Summing):
        def _sum_up(self, kind: str, minutes: list[int]) -> None:
            if odd in minutes:
                raise duckdb.ConversionException("out of range")
            super()._sum_up(kind, minutes)

    summing = Stumbling(kept._store.cursor(), kept._store.disk, kept._store.threads)
    summing.catch_up()
    summing.catch_up()
    with kept._store.cursor() as cursor:
        summed = cursor.execute("SELECT DISTINCT minute - $odd FROM point_minute ORDER BY ALL", {"odd": odd}).fetchall()
        waiting = cursor.execute("SELECT DISTINCT minute FROM stale_minute WHERE kind = 'point'").fetchall()
    assert summed == [(-2,), (-1,), (1,), (2,)]
    assert waiting == [(odd,)]
    assert len([record for record in caplog.records if "cannot be summed up" in record.getMessage()]) == 1


def test_it_sums_up_by_itself(correlator: Correlator) -> None:
    """Minutes that nobody writes to any more are summed up without being asked for."""
    correlator.append(readings(a_while_ago(3600)))
    with correlator._store.cursor() as cursor:
        cursor.execute("UPDATE stale_minute SET marked_ns = 0").fetchall()  # nobody has written for long
    eventually(lambda: rows_in(correlator, "point_minute") > 0, "the minutes are summed up")


def test_an_older_store_is_summed_up(tmp_path: Path) -> None:
    """A store of a program that knew no summaries is summed up when this one has opened it."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    correlator = Correlator.open(settings)
    correlator.append(readings(a_while_ago(3600)))
    correlator.close()
    with duckdb.connect(str(settings.store / "hot.duckdb")) as store:
        store.execute("DELETE FROM stale_minute").execute("UPDATE store_version SET version = 2")
    correlator = Correlator.open(settings)
    try:
        eventually(lambda: rows_in(correlator, "stale_minute") == 0, "no minute waits")
        assert rows_in(correlator, "point_minute") > 0
    finally:
        correlator.close()


def test_a_window_of_one_moment_is_empty(kept: Correlator) -> None:
    """A window in which no minute is whole has no summed-up rows, and one without length no rows at all."""
    with kept._store.cursor() as cursor:
        for kind in ("point", "span", "request"):
            cover(cursor, kind, 10 * MINUTE_NS + 1, 10 * MINUTE_NS + 1)
        for view in VIEWS:
            assert cursor.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)], view


Check = Callable[[], bool]
