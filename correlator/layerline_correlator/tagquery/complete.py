"""What there is to ask for: the keys of tags, and the values of one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import duckdb

from layerline.tags import TAG_WORDS
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


def tag_keys(cursor: duckdb.DuckDBPyConnection, prefix: str, limit: int) -> list[TagKey]:
    """The keys that begin so: our words first, then attributes and labels, the most frequent first."""
    words = {name: word for word, name in TAG_WORDS.items()}
    rows = cursor.execute(_statement("keys.sql")).fetchall()
    found = [TagKey(words.get(key, key), containers) for key, containers in rows]
    found.sort(key=lambda one: one.key not in TAG_WORDS)
    return [one for one in found if one.key.startswith(prefix)][:limit]


def tag_values(cursor: duckdb.DuckDBPyConnection, key: str, prefix: str, limit: int) -> list[TagValue]:
    """The values of a key that begin so, the most frequent first."""
    rows = cursor.execute(
        _statement("values.sql"), {"key": attribute(key), "prefix": prefix, "limit": limit}
    ).fetchall()
    return [TagValue(*row) for row in rows]


def _statement(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
