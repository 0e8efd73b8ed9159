"""Events of a window: what happened to containers, and what was told from outside (deploys)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb

from layerline_correlator.facts.names import glob
from layerline_correlator.questions.entities import TAG_VALUES
from layerline_correlator.questions.model import Entity, EventItem, EventQuery, Page
from layerline_correlator.store.cursors import read_cursor, write_cursor
from layerline_correlator.tagquery.condition import Bound, condition
from layerline_correlator.verdict.judge import rfc3339

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


def read_events(
    cursor: duckdb.DuckDBPyConnection, query: EventQuery, entity: Callable[[str, str], Entity]
) -> Page[EventItem]:
    """Events, newest first. ``BadCursor``."""
    conditions = ["true"]
    bound: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns, "limit": query.limit + 1}
    if query.name is not None:
        conditions.append("name GLOB $name")
        bound["name"] = glob(query.name)
    if query.service is not None:
        conditions.append("service = $service")
        bound["service"] = query.service
    for number, selection in enumerate(query.tags):
        words = Bound(f"tag{number}_")
        conditions.append(condition(selection, TAG_VALUES, words))
        bound |= words.values
    if query.cursor is not None:
        bound["time_ns"], bound["after_name"], bound["resource"], bound["body"] = read_cursor(
            query.cursor, "events", int, str, str, str
        )
        conditions.append("(time_ns, name, resource, body) < ($time_ns, $after_name, $resource, $body)")
    rows = cursor.execute(
        f"{_EVENTS} WHERE {' AND '.join(conditions)}"
        " ORDER BY time_ns DESC, name DESC, resource DESC, body DESC LIMIT $limit",
        bound,
    ).fetchall()
    items = [
        EventItem(rfc3339(time_ns), name, body, dict(attributes or {}), _entity(entity, service, container_id, host))
        for time_ns, name, body, _, attributes, service, container_id, host, _ in rows[: query.limit]
    ]
    if len(rows) > query.limit:
        time_ns, name, body, resource = rows[query.limit - 1][:4]
        return Page(items, write_cursor("events", time_ns, name, resource, body))
    return Page(items, reason=None if items or query.cursor else "no such event was received in this window")


def _entity(
    entity: Callable[[str, str], Entity], service: str | None, container_id: str | None, host: str | None
) -> Entity | None:
    if container_id is not None:
        return entity("container", container_id)
    if service is not None:
        return entity("service", service)
    return None if host is None else entity("host", host)
