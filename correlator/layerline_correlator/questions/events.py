"""Events of a window: what happened to containers, and what was reported from outside (deploys)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from layerline_correlator.entity import Entity, Naming
from layerline_correlator.questions.paging import Order, Page
from layerline_correlator.tagquery.condition import glob, map_condition
from layerline_correlator.tagquery.model import Selection
from layerline_correlator.times import rfc3339

_ORDER = Order("events", {"time_ns": int, "name": str, "resource": str, "body": str}, descending=True)
_EVENTS = """
SELECT * FROM (
    SELECT
        event.time_ns, event.name, coalesce(event.body, '') AS body, event.resource, event.attributes,
        coalesce(event.attributes['service.name'], resource.service) AS service, resource.container_id, resource.host,
        map_concat(coalesce(host.attributes, MAP {}), coalesce(container.attributes, MAP {}),
                   coalesce(resource.attributes, MAP {}), coalesce(event.attributes, MAP {})) AS tags
    FROM event
    LEFT JOIN resource USING (resource)
    LEFT JOIN container ON container.container_id = resource.container_id
    LEFT JOIN host ON host.host = coalesce(resource.host, container.host)
    WHERE event.time_ns >= $from_ns AND event.time_ns < $to_ns
)
"""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events: those of a half-open window, newest first."""

    from_ns: int
    to_ns: int
    name: str | None = None  # with * for anything
    service: str | None = None
    tags: tuple[Selection, ...] = ()  # all of them
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class EventItem:
    """Something that happened: to a container, or reported from outside (a deploy)."""

    time: str
    name: str
    body: str
    attributes: dict[str, str]
    entity: Entity | None  # what it happened to, where that is known


def read_events(cursor: duckdb.DuckDBPyConnection, query: EventQuery, entity: Naming) -> Page[EventItem]:
    """Events, newest first. ``BadCursor``."""
    page = _ORDER.slice(query.cursor, query.limit)
    conditions = [page.condition]
    bound: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns} | page.bound
    if query.name is not None:
        conditions.append("name GLOB $name")
        bound["name"] = glob(query.name)
    if query.service is not None:
        conditions.append("service = $service")
        bound["service"] = query.service
    for number, selection in enumerate(query.tags):
        condition, words = map_condition(number, selection)
        conditions.append(condition)
        bound |= words
    rows = cursor.execute(f"{_EVENTS} WHERE {' AND '.join(conditions)} {page.end}", bound).fetchall()
    shown, following = page.cut(rows, lambda row: (row[0], row[1], row[3], row[2]))
    items = [
        EventItem(rfc3339(time_ns), name, body, dict(attributes or {}), _entity(entity, service, container_id, host))
        for time_ns, name, body, _, attributes, service, container_id, host, _ in shown
    ]
    reason = None if items or query.cursor else "no such event was received in this window"
    return Page(items, following, reason)


def _entity(entity: Naming, service: str | None, container_id: str | None, host: str | None) -> Entity | None:
    if container_id is not None:
        return entity("container", container_id)
    if service is not None:
        return entity("service", service)
    return None if host is None else entity("host", host)
