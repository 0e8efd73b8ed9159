"""What lived in a window: processes, containers, hosts and services (``inventory.sql``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import duckdb

from layerline_correlator.questions.lives import Life, entities
from layerline_correlator.questions.model import Entity, EntityItem, EntityQuery, Page
from layerline_correlator.store.cursors import read_cursor, write_cursor
from layerline_correlator.store.statements import text
from layerline_correlator.tagquery.condition import Bound, condition
from layerline_correlator.verdict.judge import rfc3339

#: The values that a key has in a map `tags`; labels are asked for by their own names.
TAG_VALUES = "values_in(coalesce(tags[{0}], tags['container.label.' || {0}]))".format


def read_entities(cursor: duckdb.DuckDBPyConnection, query: EntityQuery) -> Page[EntityItem]:
    """The entities of the window in the order of type, name and id. ``BadCursor``."""
    conditions = ["true"]
    bound: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns, "limit": query.limit + 1}
    if query.type is not None:
        conditions.append("type = $type")
        bound["type"] = query.type
    for number, selection in enumerate(query.tags):
        words = Bound(f"tag{number}_")
        conditions.append(condition(selection, TAG_VALUES, words))
        bound |= words.values
    if query.cursor is not None:
        bound["after_type"], bound["after_name"], bound["after_id"] = read_cursor(
            query.cursor, "entities", str, str, str
        )
        conditions.append("(type, name, id) > ($after_type, $after_name, $after_id)")
    entity = text("questions/entities.sql")
    rows = cursor.execute(
        f"{entity} WHERE {' AND '.join(conditions)} ORDER BY type, name, id LIMIT $limit", bound
    ).fetchall()
    items = [_item(*row) for row in rows[: query.limit]]
    if any(item.type == "container" for item in items):
        lives = {life.id: life for life in entities(cursor, query.from_ns, query.to_ns)}
        items = [_with_life(item, lives.get(item.id)) if item.type == "container" else item for item in items]
    if len(rows) > query.limit:
        return Page(items, write_cursor("entities", items[-1].type, items[-1].name, items[-1].id))
    return Page(items, reason=None if items or query.cursor else "nothing of that kind sent anything in this window")


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
