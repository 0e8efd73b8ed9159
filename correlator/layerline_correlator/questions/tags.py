"""Tags that a query can ask by: their keys, and the values of a key."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from layerline.tags import TAG_WORDS
from layerline_correlator.store.statements import text
from layerline_correlator.tagquery.condition import attribute


@dataclass(frozen=True, slots=True)
class TagKey:
    """A key to ask by, and how many containers carry it."""

    key: str
    containers: int


@dataclass(frozen=True, slots=True)
class TagValue:
    """A value of a key, and how many containers carry it."""

    value: str
    containers: int


def read_tag_keys(cursor: duckdb.DuckDBPyConnection, prefix: str, limit: int) -> list[TagKey]:
    """The keys with this prefix: our words first, then attributes and labels, the most frequent first."""
    words = {name: word for word, name in TAG_WORDS.items()}
    rows = cursor.execute(text("tagquery/keys.sql")).fetchall()
    found = [TagKey(words.get(key, key), containers) for key, containers in rows]
    found.sort(key=lambda one: one.key not in TAG_WORDS)
    return [one for one in found if one.key.startswith(prefix)][:limit]


def read_tag_values(cursor: duckdb.DuckDBPyConnection, key: str, prefix: str, limit: int) -> list[TagValue]:
    """The values of a key with this prefix, the most frequent first."""
    bound = {"key": attribute(key), "prefix": prefix, "limit": limit}
    rows = cursor.execute(text("tagquery/values.sql"), bound).fetchall()
    return [TagValue(*row) for row in rows]
