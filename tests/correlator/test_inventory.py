"""What lived in a window, and who called whom."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, event_row, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.questions.entities import EntityItem, EntityQuery
from layerline_correlator.questions.events import EventQuery
from layerline_correlator.questions.paging import BadCursor
from layerline_correlator.questions.services import Edge, ServiceItem

HOUR = 3600 * 10**9
SHOP = [
    {"id": "a", "kind": "server", "ms": [0, 300], "cpu": 20, "container": "web-1"},
    {"id": "b", "parent": "a", "kind": "client", "ms": [10, 100], "cpu": 0, "container": "web-1"},
    {"id": "c", "parent": "b", "kind": "server", "service": "stock", "ms": [20, 90], "cpu": 60, "container": "stock-1"},
    {
        "id": "d", "parent": "a", "kind": "client", "ms": [110, 200], "cpu": 0, "container": "web-1",
        "attributes": {"server.address": "db", "server.port": "5432"},
    },
    # a library above another: one call, told by the lower one
    {"id": "e", "parent": "a", "kind": "client", "ms": [210, 220], "cpu": 0, "container": "web-1"},
    {
        "id": "f", "parent": "e", "kind": "client", "ms": [211, 219], "cpu": 0, "container": "web-1",
        "attributes": {"url.full": "https://cache:6379/x?y"},
    },
]  # fmt: skip


def shop(correlator: Correlator, zero_ns: int, requests: int = 1) -> None:
    rows = [
        span_row(drawn, f"{number:032x}", zero_ns + number * 10**9)
        for number, drawn in itertools.product(range(1, requests + 1), SHOP)
    ]
    measured = [
        {"signal": "container.cpu.time", "container": "idle-1"},
        {"signal": "container.cpu.time", "container": "web-1"},
        {"signal": "system.cpu.time", "host": "host-2"},
    ]
    readings = [series_rows({**drawn, "at": [0, 1000], "values": [1, 2]}, zero_ns) for drawn in measured]
    events = [
        event_row({"name": name, "container": "stock-1", "at": at}, zero_ns)
        for name, at in (("container.start", -5000), ("container.die", 5000))
    ]
    correlator.append(batch(rows, readings, events))


def around(zero_ns: int, **more: Any) -> EntityQuery:
    return EntityQuery(zero_ns - HOUR, zero_ns + HOUR, **more)


def by_name(items: list[EntityItem]) -> dict[str, EntityItem]:
    return {item.name: item for item in items}


def test_what_sent_spans_or_was_measured_is_there(correlator: Correlator) -> None:
    """Containers that only the agent saw, hosts without a container, processes and services: each once."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns)
    found = correlator.inventory(around(zero_ns)).items
    assert [(item.type, item.name) for item in found] == [
        ("container", "idle-1"), ("container", "stock-1"), ("container", "web-1"),
        ("host", "host-1"), ("host", "host-2-name"),
        ("process", "stock (process 550)"), ("process", "web (process 1)"),
        ("service", "stock"), ("service", "web"),
    ]  # fmt: skip


def test_an_entity_runs_on_another_and_has_its_tags(correlator: Correlator) -> None:
    """A process runs on its container, that on its host; each has the tags of what it runs in."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns)
    process = by_name(correlator.inventory(around(zero_ns, type="process")).items)["stock (process 550)"]
    container = by_name(correlator.inventory(around(zero_ns, type="container")).items)["stock-1"]
    assert process.runs_on == Entity("container", container_id("stock-1"), "stock-1")
    assert process.tags["container.name"] == "stock-1"
    assert process.tags["service.name"] == "stock"
    assert container.runs_on == container.host
    assert container.host is not None
    assert container.host.type == "host"


def test_a_lifetime_is_what_the_agent_told(correlator: Correlator) -> None:
    """A container that died has an end; where nobody told, none is made up."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns)
    found = by_name(correlator.inventory(around(zero_ns, type="container")).items)
    assert found["stock-1"].started is not None
    assert found["stock-1"].ended is not None
    assert found["stock-1"].started < found["stock-1"].ended
    assert (found["web-1"].started, found["web-1"].ended) == (None, None)


def test_a_container_that_started_again_lives(correlator: Correlator) -> None:
    """An end before the last start is no end."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns)
    correlator.append(
        batch([], events=[event_row({"name": "container.start", "container": "stock-1", "at": 6000}, zero_ns)])
    )
    assert by_name(correlator.inventory(around(zero_ns, type="container")).items)["stock-1"].ended is None


def test_the_window_and_the_tags_choose(correlator: Correlator) -> None:
    """What sent nothing in the window is not listed; a tag chooses, with * for anything and nothing else."""
    zero_ns = a_while_ago(600)
    shop(correlator, zero_ns)
    empty = correlator.inventory(EntityQuery(zero_ns - HOUR, zero_ns - HOUR // 2))
    assert empty.items == []
    assert empty.reason

    def named(value: str) -> list[str]:
        return [
            item.name
            for item in correlator.inventory(around(zero_ns, type="container", tags=(("container", value),))).items
        ]

    assert named("stock-*") == ["stock-1"]
    assert named("stock-1") == ["stock-1"]
    assert named("stock-?") == []
    assert named("[s]tock-1") == []


def test_pages_of_entities_follow_each_other(correlator: Correlator) -> None:
    """Following `next` shows every entity once; another list's cursor is refused."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns)
    seen, cursor = [], None
    while True:
        page = correlator.inventory(around(zero_ns, limit=2, cursor=cursor))
        seen += [(item.type, item.id) for item in page.items]
        if (cursor := page.next) is None:
            break
    assert len(seen) == len(set(seen)) == 9
    for nonsense in ("x", "W10", "WyJldmVudHMiLCAxXQ"):
        with pytest.raises(BadCursor):
            correlator.inventory(around(zero_ns, cursor=nonsense))


def test_services_and_their_calls(correlator: Correlator) -> None:
    """Each service with its requests; each call once, from the caller's side, by service or by address."""
    zero_ns = a_while_ago()
    shop(correlator, zero_ns, requests=3)
    found = correlator.service_map(zero_ns, zero_ns + HOUR)
    assert found.items == [ServiceItem("stock", 3, 0, 70 * MS, 70 * MS), ServiceItem("web", 3, 0, 300 * MS, 300 * MS)]
    assert set(found.edges) == {
        Edge("web", "service", "stock", 3, 0, 90 * MS, 90 * MS),
        Edge("web", "dependency", "db:5432", 3, 0, 90 * MS, 90 * MS),
        Edge("web", "dependency", "cache:6379", 3, 0, 8 * MS, 8 * MS),
    }


def test_errors_and_quantiles_are_those_of_the_window(correlator: Correlator) -> None:
    """Failed requests and calls are counted, quantiles are durations that happened; other windows do not count."""
    zero_ns = a_while_ago(600)
    rows = []
    for number in range(1, 21):
        a = {"id": "a", "kind": "server", "ms": [0, number * 10], "cpu": 1}
        b = {
            "id": "b",
            "parent": "a",
            "kind": "client",
            "ms": [0, number * 5],
            "cpu": 0,
            "attributes": {"peer.service": "bank"},
        }
        for drawn in (a, b):
            owner, row = span_row(drawn, f"{number:032x}", zero_ns + number * 10**9)
            rows.append((owner, row._replace(status=2 if number % 4 == 0 else 0)))
    correlator.append(batch(rows))
    whole = correlator.service_map(zero_ns, zero_ns + HOUR)
    assert whole.items == [ServiceItem("web", 20, 5, 100 * MS, 190 * MS)]
    assert whole.edges == [Edge("web", "dependency", "bank", 20, 5, 50 * MS, 95 * MS)]
    half = correlator.service_map(zero_ns + 11 * 10**9, zero_ns + HOUR)
    assert half.items == [ServiceItem("web", 10, 3, 150 * MS, 200 * MS)]
    assert correlator.service_map(zero_ns - HOUR, zero_ns).reason


def test_events_are_listed_newest_first(correlator: Correlator) -> None:
    """Events of the window by name and entity; pages follow each other without gap or repeat."""
    zero_ns = a_while_ago()
    rows = [event_row({"name": "container.oom", "container": f"c-{n % 3}", "at": -n}, zero_ns) for n in range(10)]
    rows.append(event_row({"name": "container.start", "container": "c-0", "at": 0}, zero_ns))
    correlator.append(batch([], events=rows))

    def query(**more: Any) -> EventQuery:
        return EventQuery(zero_ns - HOUR, zero_ns + HOUR, **more)

    seen, cursor = [], None
    while True:
        page = correlator.events(query(name="*.oom", limit=3, cursor=cursor))
        seen += [(item.time, item.entity.name if item.entity else None) for item in page.items]
        if (cursor := page.next) is None:
            break
    assert len(seen) == len(set(seen)) == 10
    assert [time for time, _ in seen] == sorted((time for time, _ in seen), reverse=True)
    chosen = correlator.events(query(tags=(("container", "c-0"),))).items
    assert {item.name for item in chosen} == {"container.oom", "container.start"}
    assert {item.entity for item in chosen} == {Entity("container", container_id("c-0"), "c-0")}
    assert correlator.events(query(name="deployment")).reason
    with pytest.raises(BadCursor):
        correlator.events(query(cursor="nonsense"))
