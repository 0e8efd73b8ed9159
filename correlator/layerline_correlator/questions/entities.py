"""What lived in a window: processes, containers, hosts and services (``entities.sql``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.questions.lives import Life, Total, read_lives
from layerline_correlator.questions.paging import Order, Page
from layerline_correlator.store.sealed import POINT, SPAN, narrow
from layerline_correlator.store.stale import KINDS
from layerline_correlator.store.statements import text
from layerline_correlator.summaries.cover import DAY_PART_NS, cover
from layerline_correlator.tagquery.condition import map_condition
from layerline_correlator.tagquery.model import Selection
from layerline_correlator.times import rfc3339

_ORDER = Order("entities", {"type": str, "name": str, "id": str})


@dataclass(frozen=True, slots=True)
class EntityQuery:
    """Which entities: those that lived in a half-open window, of a type, with tags."""

    from_ns: int
    to_ns: int
    type: str | None = None  # "process" | "container" | "host" | "service"
    tags: tuple[Selection, ...] = ()  # all of them
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class EntityItem:
    """An entity with its tags (its own, and those of what it runs in) and its lifetime."""

    type: str  # "process" | "container" | "host" | "service"
    id: str
    name: str
    tags: dict[str, str]
    first_seen: str  # when its first data came
    last_seen: str  # its last data in the window
    started: str | None  # as the agent saw; null where nobody looked
    ended: str | None
    host: Entity | None
    runs_on: Entity | None  # a process's container or host, a container's host
    exit_code: int | None = None  # these three: of a container
    runs: int | None = None  # how often it was started, as far as was seen
    totals: dict[str, Total] | None = None  # what it used in its life


def read_entities(cursor: duckdb.DuckDBPyConnection, query: EntityQuery) -> Page[EntityItem]:
    """The entities of the window in the order of type, name and id. ``BadCursor``."""
    page = _ORDER.slice(query.cursor, query.limit)
    conditions = [page.condition]
    bound: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns} | page.bound
    if query.type is not None:
        conditions.append("type = $type")
        bound["type"] = query.type
    for number, selection in enumerate(query.tags):
        condition, words = map_condition(number, selection)
        conditions.append(condition)
        bound |= words
    narrow(cursor, query.from_ns, query.to_ns, POINT, SPAN)
    for kind in KINDS:
        cover(cursor, kind, query.from_ns, query.to_ns, quarters=query.to_ns - query.from_ns > DAY_PART_NS)
    entity = text("questions/entities.sql")
    rows = cursor.execute(f"{entity} WHERE {' AND '.join(conditions)} {page.end}", bound).fetchall()
    shown, following = page.cut([_item(*row) for row in rows], lambda item: (item.type, item.name, item.id))
    items = list(shown)
    if any(item.type == "container" for item in items):
        lives = {life.id: life for life in read_lives(cursor, query.from_ns, query.to_ns)}
        items = [_with_life(item, lives.get(item.id)) if item.type == "container" else item for item in items]
    reason = None if items or query.cursor else "nothing of that kind sent anything in this window"
    return Page(items, following, reason)


def _with_life(item: EntityItem, life: Life | None) -> EntityItem:
    return item if life is None else replace(item, exit_code=life.exit_code, runs=life.runs, totals=life.totals)


def _item(
    type_: str,
    id_: str,
    name: str,
    tags: dict[str, str],
    first_ns: int | None,
    last_ns: int,
    started_ns: int | None,
    ended_ns: int | None,
    host_id: str | None,
    host_name: str | None,
    runs_on_type: str | None,
    runs_on_id: str | None,
    runs_on_name: str | None,
) -> EntityItem:
    return EntityItem(
        type=type_,
        id=id_,
        name=name,
        tags=dict(sorted(tags.items())),
        first_seen=rfc3339(last_ns if first_ns is None else first_ns),
        last_seen=rfc3339(last_ns),
        started=None if started_ns is None else rfc3339(started_ns),
        ended=None if ended_ns is None else rfc3339(ended_ns),
        host=_entity("host", host_id, host_name),
        runs_on=_entity(runs_on_type, runs_on_id, runs_on_name),
    )


def _entity(type_: str | None, id_: str | None, name: str | None) -> Entity | None:
    return None if type_ is None or id_ is None else Entity(type_, id_, name or id_)
