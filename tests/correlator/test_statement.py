"""A statement is shown without the values that it was asked with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerline_correlator.verdict.statement import LONGEST, masked
from profiles import examples


@pytest.mark.parametrize(
    ("system", "statement", "shown"),
    [
        ("postgresql", "SELECT * FROM items WHERE id = $1", "SELECT * FROM items WHERE id = $1"),
        ("postgresql", "SELECT *\n  FROM t1 WHERE id = 42 AND x = -1.5e3", "SELECT * FROM t1 WHERE id = ? AND x = ?"),
        ("postgresql", "SELECT \"Name\" FROM u WHERE mail = 'o''brien@x.org'", 'SELECT "Name" FROM u WHERE mail = ?'),
        ("postgresql", "SELECT 'C:\\' AS a, 'bob' AS b", "SELECT ? AS a, ? AS b"),
        ("postgresql", "SELECT E'it\\'s bob', 'x'", "SELECT ?, ?"),
        ("postgresql", "SELECT $body$ bob's $body$, 1", "SELECT ?, ?"),
        ("mysql", "SELECT * FROM u WHERE name = \"bob\" AND k = 'a\\'bob'", "SELECT * FROM u WHERE name = ? AND k = ?"),
        ("mysql", "SELECT 1 /* for bob */ FROM t -- bob", "SELECT ? FROM t"),
        ("mysql", "SELECT * FROM u WHERE id IN (1, 2, 3)", "SELECT * FROM u WHERE id IN (?)"),
        ("mysql", "SELECT * FROM u WHERE name = 'bob", "SELECT * FROM u WHERE name = ?"),
        ("mongodb", '{"find": "users", "filter": {"mail": "bob"}}', "{?: ?, ?: {?: ?}}"),
        ("redis", "GET session:bob", "GET ?"),
        ("redis", "PING", "PING"),
        ("", "SELECT items", "SELECT items"),
    ],
)
def test_values_are_masked_and_names_are_not(system: str, statement: str, shown: str) -> None:
    """Strings, numbers and lists of them become ?, tables, columns and placeholders stay."""
    assert masked(statement, system) == shown


VALUES = st.text(max_size=400).map(lambda text: text.replace("'", "''").replace("\\", ""))


@settings(max_examples=examples(100, 2_000))
@given(VALUES, st.sampled_from(["mysql", "mssql"]))
def test_no_value_is_shown_whatever_it_is(value: str, system: str) -> None:
    """What stands between quotes is never part of what is shown, and that is one short line."""
    shown = masked(f"SELECT a FROM t WHERE b = '{value}' AND c = 'secret'", system)
    assert shown == "SELECT a FROM t WHERE b = ? AND c = ?" or "$" in value
    assert "secret" not in shown
    assert len(shown) <= LONGEST
