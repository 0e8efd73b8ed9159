"""Lists in pages: the page that is answered, and the cursor with which the next page is asked for.

A cursor is opaque to those who use it: the name of its list and the sort key of the last item shown, as JSON in base64.
A list that is sorted in SQL has an ``Order``; a list that is sorted in Python keeps the number of the next item in its
cursor.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Row = TypeVar("Row")


class BadCursor(ValueError):
    """A cursor that this list did not hand out."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A list, the cursor of its next page, and why it is empty."""

    items: list[Item] = field(default_factory=list)
    next: str | None = None
    reason: str | None = None


def write_cursor(of: str, *key: int | str) -> str:
    """The cursor of the list ``of`` behind the item with this key."""
    return base64.urlsafe_b64encode(json.dumps([of, *key]).encode()).decode().rstrip("=")


def read_cursor(text: str, of: str, *types: type[int] | type[str]) -> list[Any]:
    """The key that ``write_cursor`` was given, of these types. ``BadCursor`` when it is of another list, or of none."""
    key: list[Any]
    try:
        found, *key = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError):
        raise BadCursor("expected a cursor from this list's `next`") from None
    if found != of or [type(part) for part in key] != list(types):
        raise BadCursor(f"expected a cursor of the list {of!r}")
    if any(isinstance(part, int) and abs(part) >= 2**63 for part in key):
        raise BadCursor("the cursor's number is out of bounds")
    return key


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted. The whole key differs from item to item, so that no item is shown twice or left out."""

    of: str
    """The list's name in its cursors."""
    key: Mapping[str, type[int] | type[str]]
    """SQL of each part of the key, and the type of its values."""
    descending: bool = False

    def slice(self, cursor: str | None, limit: int) -> Slice:
        """What to select for one page: what follows the cursor, or the beginning without one. ``BadCursor``."""
        condition, bound = "true", {"limit": limit + 1}
        if cursor is not None:
            bound |= {
                f"after_{number}": part for number, part in enumerate(read_cursor(cursor, self.of, *self.key.values()))
            }
            after = ", ".join(f"$after_{number}" for number in range(len(self.key)))
            condition = f"({', '.join(self.key)}) {'<' if self.descending else '>'} ({after})"
        order = ", ".join(f"{part} DESC" if self.descending else part for part in self.key)
        return Slice(self.of, limit, condition, f"ORDER BY {order} LIMIT $limit", bound)


@dataclass(frozen=True, slots=True)
class Slice:
    """One page as SQL: a condition and the end of the statement, and the values that the two bind."""

    of: str
    limit: int
    condition: str
    end: str
    bound: dict[str, Any]

    def cut(self, rows: Sequence[Row], key: Callable[[Row], Sequence[int | str]]) -> tuple[Sequence[Row], str | None]:
        """The rows to show, and the cursor where there are more. ``key`` gives the parts of a row's sort key."""
        shown = rows[: self.limit]
        return shown, write_cursor(self.of, *key(shown[-1])) if len(rows) > self.limit else None
