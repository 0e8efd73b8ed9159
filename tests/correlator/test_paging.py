"""Lists in pages: no item is lost or shown twice, and only a list's own cursors are taken."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerline_correlator.questions.paging import BadCursor, Order, read_cursor, write_cursor

#: For all examples: opening a database takes longer than asking it.
CONNECTION = duckdb.connect(":memory:")
BOUND = 2**63
ROWS = st.lists(st.tuples(st.integers(-3, 3), st.text("ab%'é", max_size=2)), unique=True, max_size=12)


@pytest.mark.parametrize("descending", [False, True])
@given(rows=ROWS, limit=st.integers(1, 5))
def test_pages_hold_every_item_once(descending: bool, rows: list[tuple[int, str]], limit: int) -> None:
    """From cursor to cursor a list shows all of its items, in order, ``limit`` at a time."""
    order = Order("things", {"size": int, "name": str}, descending)
    shown: list[tuple[int, str]] = []
    following = None
    CONNECTION.execute("CREATE OR REPLACE TABLE thing (size BIGINT, name VARCHAR)")
    if rows:
        CONNECTION.executemany("INSERT INTO thing VALUES (?, ?)", rows)
    while True:
        page = order.slice(following, limit)
        found = CONNECTION.execute(f"FROM thing WHERE {page.condition} {page.end}", page.bound).fetchall()
        items, following = page.cut(found, lambda row: row)
        shown += items
        assert len(items) == limit or following is None
        if following is None:
            break
    assert shown == sorted(rows, reverse=descending)


@given(size=st.integers(1 - BOUND, BOUND - 1), name=st.text())
def test_a_cursor_gives_back_its_key(size: int, name: str) -> None:
    """What was written into a cursor is read from it, whatever the key is."""
    assert read_cursor(write_cursor("things", size, name), "things", int, str) == [size, name]


def forged(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "2",
        "no cursor",
        "ä",
        forged("{"),
        forged("7"),
        forged("[]"),
        forged('["things"]'),
        forged('["things", 1]'),
        forged('["things", 1, "a", 2]'),
        forged('["things", "a", 1]'),
        forged('["things", 1.0, "a"]'),
        forged('["things", true, "a"]'),
        forged('["things", null, "a"]'),
        forged(f'["things", {BOUND}, "a"]'),
        forged(f'["things", {-BOUND}, "a"]'),
        write_cursor("others", 1, "a"),
    ],
)
def test_other_cursors_are_refused(cursor: str) -> None:
    """A cursor of another list, of another key or of nobody's making is a ``BadCursor``, never a failure of ours."""
    with pytest.raises(BadCursor):
        read_cursor(cursor, "things", int, str)


@given(cursor=st.text())
def test_any_text_is_refused(cursor: str) -> None:
    """Whatever is sent as a cursor, the worst that happens is a ``BadCursor``."""
    with pytest.raises(BadCursor):
        Order("things", {"name": str}).slice(cursor, 10)
