"""The timeline: aligned series, in which a gap is a gap and nothing is zero that was not measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from spans import MS, a_while_ago, batch, container_id, event_row, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.incidents import _FIELDS
from layerline_correlator.questions.timeline import (
    MOST_POINTS,
    POINTS,
    IncidentMark,
    Series,
    StepTooFine,
    Timeline,
    TimelineQuery,
    grid,
    read_timeline,
)
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import EventRow, ResourceRow
from layerline_correlator.tagquery.parse import parse_selection
from layerline_correlator.times import rfc3339

pytestmark = pytest.mark.long

S = 10**9


def a_minute() -> int:
    """A whole minute some time ago, so that steps begin where drawings do."""
    return a_while_ago(600) // (60 * S) * (60 * S)


@pytest.fixture
def zero_ns() -> int:
    return a_minute()


def trace_id(number: int) -> str:
    return f"{number:032x}"


def request(number: int, zero_ns: int, at: float, **more: Any) -> Any:
    """A request at ``at`` seconds: 20 ms on the CPU unless drawn otherwise, in container web-1 of host-1."""
    begin = round(at * 1000)
    drawn = {"id": f"r{number}", "kind": "server", "ms": [begin, begin + 20], "cpu": 20, "switches": 0, "name": "GET /",
             "container": "web-1"}  # fmt: skip
    return span_row(drawn | more, trace_id(number), zero_ns)


def seconds(signal: str, values: dict[float, float], zero_ns: int, **more: Any) -> Any:
    """A series with these values at these seconds (times in ms, as spans.py draws them)."""
    at = {"at": [second * 1000 for second in values], "values": list(values.values())}
    return series_rows({"signal": signal} | at | more, zero_ns)


def of(timeline: Timeline, name: str, entity: str | None = None, **attributes: str) -> list[float | int | None]:
    """The values of the one series of that name."""
    found = [
        series for series in timeline.series
        if series.name == name and (entity is None or (series.entity and series.entity.name == entity))
        and attributes.items() <= {key.replace(".", "_"): text for key, text in series.attributes.items()}.items()
    ]  # fmt: skip
    assert len(found) == 1, [(series.name, series.entity, series.attributes) for series in timeline.series]
    return found[0].values


def ask(correlator: Correlator, zero_ns: int, seconds: float = 10, **asked: Any) -> Timeline:
    asked.setdefault("step_ns", S)
    found = correlator.timeline(TimelineQuery(zero_ns, zero_ns + round(seconds * S), **asked))
    assert found is not None
    return found


def test_layers_stand_side_by_side(correlator: Correlator, zero_ns: int) -> None:
    """Requests, causes and readings of container and machine have one value for each step, at the same moments."""
    correlator.append(
        batch(
            [request(1, zero_ns, 1), request(2, zero_ns, 1.5, ms=[1500, 1600], cpu=40), request(3, zero_ns, 4)],
            [
                seconds("container.cpu.time", {n: 500 * n for n in range(11)}, zero_ns, container="web-1"),
                seconds("container.memory.working_set", dict.fromkeys(range(11), 4096), zero_ns, container="web-1"),
                seconds("system.cpu.time", {n: 900 * n for n in range(11)}, zero_ns, tags={"cpu.mode": "user"}),
            ],
        )
    )
    found = ask(correlator, zero_ns, service="web")
    assert {len(series.values) for series in found.series} == {10}
    assert [series.layer for series in found.series][-3:] == ["container", "container", "host"]
    assert of(found, "requests.count") == [None, 2, 0, 0, 1, *[None] * 5]
    assert of(found, "requests.p50") == [None, 60 * MS, None, None, 20 * MS, *[None] * 5]
    assert of(found, "requests.p99")[1] == pytest.approx(99.2 * MS)
    assert of(found, "app.cpu_busy") == [None, 0.06, None, None, 0.02, *[None] * 5]
    assert of(found, "container.cpu.time") == [0.5] * 10
    assert of(found, "container.memory.working_set") == [4096] * 10
    assert of(found, "system.cpu.time", cpu_mode="user") == [0.9] * 10
    units = {series.name: (series.kind, series.unit) for series in found.series}
    assert units["container.cpu.time"] == ("rate", "s/s")
    assert units["container.memory.working_set"] == ("level", "By")
    assert units["app.cpu_busy"] == ("rate", "s/s")
    assert units["requests.p50"] == ("quantile", "ns")


def test_what_a_request_lost_is_spread_over_its_duration(correlator: Correlator, zero_ns: int) -> None:
    """A request over three steps: each shows its share, and with what is unexplained they add up to its duration."""
    correlator.append(batch([request(1, zero_ns, 0.5, ms=[500, 2500], cpu=1000)]))
    found = ask(correlator, zero_ns, 4, service="web")
    parts = [series.values for series in found.series if series.about == "causes"]
    assert [sum(value or 0 for value in step) for step in zip(*parts, strict=True)] == pytest.approx([0.5, 1, 0.5, 0])
    assert all(values[3] is None for values in parts)


def test_a_gap_is_null_and_no_rise_is_zero(correlator: Correlator, zero_ns: int) -> None:
    """A counter that was read and stood still is 0; while nobody read, counter and level are null, not zero."""
    read = [*range(5), *range(14, 21)]
    correlator.append(
        batch(
            [],
            [
                seconds(
                    "container.cpu.throttled", {n: 0 if n < 14 else 7000 for n in read}, zero_ns, container="web-1"
                ),
                seconds("container.memory.working_set", dict.fromkeys(read, 10), zero_ns, container="web-1"),
            ],
        )
    )
    found = ask(correlator, zero_ns, 20, entity=("container", "web-1"))
    assert of(found, "container.cpu.throttled") == [0] * 4 + [None] * 10 + [0] * 6
    # A level holds for its usual time after the last look.
    assert of(found, "container.memory.working_set") == [10] * 5 + [None] * 9 + [10] * 6


def test_a_reset_is_no_fall(correlator: Correlator, zero_ns: int) -> None:
    """A counter that begins again grew by what it shows since then."""
    values = {0: 1000, 1: 1100, 2: 1200, 3: 50, 4: 150, 5: 250}
    correlator.append(batch([], [seconds("container.cpu.time", values, zero_ns, container="web-1")]))
    found = ask(correlator, zero_ns, 5, entity=("container", "web-1"))
    assert of(found, "container.cpu.time") == [0.1, 0.1, 0.05, 0.1, 0.1]


def test_an_interval_longer_than_a_step_is_spread(correlator: Correlator, zero_ns: int) -> None:
    """Readings of ten seconds on a grid of two: the mean in each step, no holes between."""
    values = {0: 0, 10: 4000, 20: 4000, 30: 9000}
    correlator.append(batch([], [seconds("container.cpu.time", values, zero_ns, container="web-1")]))
    found = ask(correlator, zero_ns, 30, entity=("container", "web-1"), step_ns=2 * S)
    assert of(found, "container.cpu.time") == [0.4] * 5 + [0] * 5 + [0.5] * 5


def test_a_container_that_died_and_its_successor(correlator: Correlator, zero_ns: int) -> None:
    """One name, two lives: each has its own series, null outside of its life, and the events say what happened."""
    old = seconds("container.cpu.time", {0: 0, 1: 100, 2: 200, 3: 300}, zero_ns, container="web-1")
    owner, _, _ = old
    new_owner = ResourceRow("another", owner.attributes | {"container.id": container_id("another")})
    _, row, points = seconds("container.cpu.time", {6: 0, 7: 500, 8: 1000}, zero_ns, container="web-2")
    row = row._replace(resource="another")
    correlator.append(
        batch(
            [],
            [old, (new_owner, row, points)],
            [event_row({"name": "container.die", "container": "web-1", "at": 3200}, zero_ns),
             event_row({"name": "container.start", "container": "web-1", "at": -1}, zero_ns)],
        )
    )  # fmt: skip
    found = ask(correlator, zero_ns, entity=("container", "web-1"))
    lives = {series.entity.id: series.values for series in found.series if series.entity}
    assert lives == {
        container_id("web-1"): [0.1] * 3 + [None] * 7,
        container_id("another"): [None] * 6 + [0.5] * 2 + [None] * 2,
    }
    assert [(event.name, event.entity and event.entity.name) for event in found.events] == [("container.die", "web-1")]


def test_a_request_shows_its_own_layers(correlator: Correlator, zero_ns: int) -> None:
    """With a trace id the window is the request and a little around it, with the entities it ran in and no others."""
    correlator.append(
        batch(
            [request(1, zero_ns, 20), request(2, zero_ns, 21, container="web-2")],
            [
                seconds("container.cpu.time", {n: 10 * n for n in range(40)}, zero_ns, container=name)
                for name in ("web-1", "web-2", "other")
            ],
        )
    )
    found = correlator.timeline(TimelineQuery(trace_id=trace_id(1)))
    assert found is not None
    assert (found.service, found.operation, found.step_ns) == ("web", "GET /", 100 * MS)
    assert {series.entity.name for series in found.series if series.entity} == {"web-1"}
    assert sum(value or 0 for value in of(found, "requests.count")) == 2  # its like around it, for company
    assert correlator.timeline(TimelineQuery(trace_id="f" * 32)) is None


def test_tags_choose(correlator: Correlator, zero_ns: int) -> None:
    """A tag chooses the containers that carry it, with their machine, and the requests that they served."""
    correlator.append(
        batch(
            [request(1, zero_ns, 1), request(2, zero_ns, 2, service="stock", container="stock-1")],
            [
                seconds("container.cpu.time", {n: n for n in range(11)}, zero_ns, container=name)
                for name in ("web-1", "stock-1")
            ]
            + [seconds("system.cpu.pressure", {n: n for n in range(11)}, zero_ns, tags={"pressure.kind": "some"})],
        )
    )
    found = ask(correlator, zero_ns, tags=(parse_selection("container:stock-*"),))
    assert {series.entity.name for series in found.series if series.entity} == {"stock-1", "host-1-name"}
    assert sum(value or 0 for value in of(found, "requests.count")) == 1
    none = ask(correlator, zero_ns, tags=(parse_selection("container:nobody"),))
    assert (none.series, none.reason) == ([], "nothing that was received carries these tags")


def test_a_host_shows_its_containers(correlator: Correlator, zero_ns: int) -> None:
    """A machine by its name or id, and the containers on it; those of another machine are left out."""
    correlator.append(
        batch(
            [],
            [
                seconds("system.cpu.time", {n: n for n in range(11)}, zero_ns, tags={"cpu.mode": "user"}),
                seconds("container.cpu.time", {n: n for n in range(11)}, zero_ns, container="web-1"),
                seconds("container.cpu.time", {n: n for n in range(11)}, zero_ns, container="far-1", host="host-2"),
            ],
        )
    )
    for name in ("host-1-name", "host-1-id", "host-1"):
        found = ask(correlator, zero_ns, entity=("host", name))
        assert {series.entity.name for series in found.series if series.entity} == {"web-1", "host-1-name"}
    for name in ("web-1", container_id("web-1"), container_id("web-1")[:12]):
        found = ask(correlator, zero_ns, entity=("container", name))
        assert {series.entity.name for series in found.series if series.entity} == {"web-1", "host-1-name"}


def test_other_signals_can_be_asked_for(correlator: Correlator, zero_ns: int) -> None:
    """A pattern chooses signals that are not shown by default, instead of those that are."""
    correlator.append(
        batch([], [seconds(signal, {n: n for n in range(11)}, zero_ns, container="web-1")
                   for signal in ("container.cpu.time", "container.cpu.periods")])
    )  # fmt: skip
    found = ask(correlator, zero_ns, entity=("container", "web-1"), signals=("container.cpu.per*",))
    assert [(series.name, series.unit) for series in found.series] == [("container.cpu.periods", "{period}/s")]
    assert of(found, "container.cpu.periods") == [1] * 10


def test_devices_add_up_and_directions_do_not(correlator: Correlator, zero_ns: int) -> None:
    """Bytes of two disks are one line for reads and one for writes."""
    correlator.append(
        batch(
            [],
            [
                seconds("container.disk.io", {n: factor * n for n in range(11)}, zero_ns, container="web-1",
                        tags={"disk.io.direction": direction, "system.device": device})
                for factor, direction, device in ((1, "read", "sda"), (10, "read", "sdb"), (100, "write", "sda"))
            ],
        )
    )  # fmt: skip
    found = ask(correlator, zero_ns, entity=("container", "web-1"))
    assert of(found, "container.disk.io", disk_io_direction="read") == [11] * 10
    assert of(found, "container.disk.io", disk_io_direction="write") == [100] * 10


def test_a_marker_without_entity_concerns_everybody(correlator: Correlator, zero_ns: int) -> None:
    """A change told from outside stands on every timeline of its time, unless it names a service."""
    nobody = ResourceRow("nobody", {})
    told = [
        (nobody, EventRow("nobody", zero_ns + n * S, "deploy", body, {"service.name": service} if service else {}))
        for n, (body, service) in enumerate([("config 7", None), ("web 1.5", "web"), ("stock 2.0", "stock")])
    ]
    correlator.append(batch([request(1, zero_ns, 1)], events=told))
    found = ask(correlator, zero_ns, service="web")
    assert [(event.body, event.entity and event.entity.name) for event in found.events] == [
        ("config 7", None),
        ("web 1.5", "web"),
    ]


def test_an_empty_timeline_says_why(correlator: Correlator, zero_ns: int) -> None:
    """Nothing received, a window before or after the data, an unknown entity and a filter that fits nothing differ."""
    assert ask(correlator, zero_ns).reason == "nothing was received yet"
    correlator.append(batch([request(1, zero_ns, 5)]))
    hour = 3600 * S
    reasons = {
        "older": ask(correlator, zero_ns - hour).reason,
        "younger": ask(correlator, zero_ns + 60 * S).reason,
        "nobody": ask(correlator, zero_ns, entity=("container", "nobody")).reason,
        "matches": ask(correlator, zero_ns, service="other").reason,
    }
    for word, reason in reasons.items():
        assert word in (reason or ""), reasons
    assert ask(correlator, zero_ns - hour).series == []
    assert ask(correlator, zero_ns).reason is None


def test_incidents_have_a_place(correlator: Correlator, zero_ns: int) -> None:
    """Whoever keeps incidents gives those that touch the window of that operation."""
    correlator.append(batch([request(1, zero_ns, 5)]))
    ask(correlator, zero_ns)
    mark = IncidentMark("i1", "2026-11-23T10:00:00Z", None, ["web"], "app.cpu_busy", "web was slow")
    asked: list[tuple[Any, ...]] = []

    def incidents(*window: Any) -> Iterable[IncidentMark]:
        asked.append(window)
        return [mark]

    with correlator._reading() as cursor:
        found = read_timeline(
            cursor, TimelineQuery(zero_ns, zero_ns + 10 * S, service="web"), correlator._names.entity, incidents
        )
    assert found is not None
    assert found.incidents == [mark]
    assert asked == [(zero_ns, zero_ns + 10 * S, "web", None)]


@given(some.integers(0, 2**63 - 1), some.integers(1, 2**63 - 1))
def test_a_chosen_step_fits(from_ns: int, length_ns: int) -> None:
    """Whatever the window, the grid covers it with at most 240 whole steps."""
    to_ns = min(from_ns + length_ns, 2**63 - 1)
    begin, end, step_ns = grid(from_ns, to_ns, None)
    assert (end - begin) % step_ns == 0
    assert 1 <= (end - begin) // step_ns <= POINTS
    assert begin <= min(from_ns, 2**62)
    assert end >= min(to_ns, 2**62)


def test_steps_are_those_that_fit() -> None:
    """A quarter of an hour has steps of 5 s, an hour of 30 s; what is asked for is taken if it is not too fine."""
    quarter = 900 * S
    assert grid(0, quarter, None)[2] == 5 * S
    assert grid(0, 4 * quarter, None)[2] == 30 * S
    assert grid(S, 4 * S, 2 * S) == (0, 4 * S, 2 * S)
    for step_ns in (0, 100 * MS):
        with pytest.raises(StepTooFine, match=f"more than {MOST_POINTS:,} points; expected 0.5s or more"):
            grid(0, quarter, step_ns)


def test_series_are_alike_whoever_tells(correlator: Correlator, zero_ns: int) -> None:
    """A second sender of the same figure does not double it."""
    ours = seconds("container.cpu.time", {n: 100 * n for n in range(11)}, zero_ns, container="web-1")
    theirs_owner = ResourceRow("theirs", {"container.id": container_id("web-1"), "container.name": "web-1"})
    _, row, points = ours
    row = row._replace(series="theirs", resource="theirs")
    points = [point._replace(series="theirs") for point in points]
    correlator.append(batch([], [ours, (theirs_owner, row, points)]))
    found: list[Series] = ask(correlator, zero_ns, entity=("container", "web-1")).series
    assert [series.values for series in found] == [[0.1] * 10]


@pytest.fixture(scope="module")
def one_request(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """A store with one request and ten seconds of readings, which is only asked, and their zero."""
    correlator, zero_ns = Correlator.open(Settings(store=tmp_path_factory.mktemp("one"), group_ns=0)), a_minute()
    correlator.append(
        batch(
            [request(1, zero_ns, 1)],
            [seconds("container.cpu.time", {n: n for n in range(11)}, zero_ns, container="web-1")],
        )
    )
    yield correlator, zero_ns
    correlator.close()


@pytest.mark.parametrize(
    "asked",
    [
        {"entity": ("container", "\0")},
        {"entity": ("host", "'; DROP TABLE span; --")},
        {"signals": ("\\", "*\\", "[", "[[]", "[^", "**", "\0")},
        {"service": "\0", "operation": "*"},
        {"from_ns": 0, "to_ns": 2**63 - 1, "step_ns": None},
        {"from_ns": 2**63 - 2, "to_ns": 2**63 - 1, "step_ns": None},
        {"step_ns": 1, "from_ns": 5, "to_ns": 6},
    ],
    ids=str,
)
def test_strange_questions_are_answered(one_request: tuple[Correlator, int], asked: dict[str, Any]) -> None:
    """Names and patterns are values and not SQL, and the longest and strangest windows have a timeline."""
    correlator, zero_ns = one_request
    given = {"from_ns": zero_ns, "to_ns": zero_ns + 10 * S, "step_ns": S} | asked
    found = correlator.timeline(TimelineQuery(**given))
    assert found is not None
    assert all(len(series.values) == found.points for series in found.series)
    everything = correlator.timeline(TimelineQuery(zero_ns, zero_ns + 10 * S))
    assert everything is not None
    assert everything.series


def test_incidents_of_the_store_are_marked(correlator: Correlator, zero_ns: int) -> None:
    """What the store keeps as an incident of that operation is on its timeline, and on no other's."""
    correlator.append(batch([request(1, zero_ns, 5)]))
    document = dict.fromkeys(_FIELDS) | {
        "id": "i1", "start": rfc3339(zero_ns), "services": ["web"], "cause": "app.blocked", "summary": "web was slow",
    }  # fmt: skip
    with correlator._writing() as cursor:
        cursor.execute(
            "INSERT INTO incident BY NAME SELECT 'i1' AS incident, $start_ns AS start_ns, $document AS document",
            {"start_ns": zero_ns, "document": json.dumps(document)},
        ).fetchall()
        cursor.execute(
            "INSERT INTO trouble BY NAME SELECT 'i1' AS incident, 'web' AS service, 'GET /' AS operation"
        ).fetchall()
    mark = IncidentMark("i1", rfc3339(zero_ns), None, ["web"], "app.blocked", "web was slow")
    assert ask(correlator, zero_ns, service="web").incidents == [mark]
    assert ask(correlator, zero_ns, service="web", operation="GET /other").incidents == []
    assert ask(correlator, zero_ns - 3600 * S, service="web").incidents == []
