"""Our ``.sql`` files: read and parsed once in the life of a process, run on any cursor.

A name is the path below this package: ``ledger/batch.sql``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb

_PACKAGE = __name__.partition(".")[0]


@cache
def text(name: str) -> str:
    """One of our ``.sql`` files."""
    return (files(_PACKAGE) / name).read_text(encoding="utf-8")


@cache
def parsed(sql: str) -> tuple[duckdb.Statement, ...]:
    """The statements of a text. A statement belongs to no connection and can be run again."""
    with _parser().cursor() as cursor:  # of its own, because several threads parse
        return tuple(cursor.extract_statements(sql))


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database, opened once: that costs a hundred times as much as parsing a statement."""
    return duckdb.connect(":memory:", config={"threads": 1})


def literal(value: str) -> str:
    """A text as SQL writes it, for the few statements that take no parameters."""
    return "'" + value.replace("'", "''") + "'"


def first_row(result: duckdb.DuckDBPyConnection) -> tuple[Any, ...] | None:
    """The first row of what was executed, all of it read: a rest that nobody reads keeps a transaction open."""
    rows = result.fetchall()
    return rows[0] if rows else None


def run(
    connection: duckdb.DuckDBPyConnection, name: str, parameters: Mapping[str, Any] | None = None
) -> list[list[tuple[Any, ...]]]:
    """Run one of our ``.sql`` files, statement by statement; parameters go to the statements that name them.

    Returns the rows of each statement.
    """
    return execute(connection, parsed(text(name)), parameters)


def execute(
    connection: duckdb.DuckDBPyConnection,
    statements: Sequence[duckdb.Statement],
    parameters: Mapping[str, Any] | None = None,
) -> list[list[tuple[Any, ...]]]:
    """Run these statements one after another, as ``run`` does."""
    answers = []
    for statement in statements:
        wanted = {key: value for key, value in (parameters or {}).items() if key in statement.named_parameters}
        answers.append(connection.execute(statement, wanted).fetchall())
    return answers


def begin(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on this connection sees the store as it is now. It can still make temporary tables."""
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()


def begin_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """``begin`` again after a statement failed, which DuckDB takes for the end of what had begun."""
    connection.execute("ROLLBACK").fetchall()
    begin(connection)
