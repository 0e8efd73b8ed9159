"""Steps: SQL that makes one table each, in an order that follows from what each reads.

A file of steps is ordinary SQL that pastes into a DuckDB shell. Above each ``CREATE … TABLE`` stands its head:

    -- What the table says of what, for the reader.
    -- makes: segment
    -- reads: walk
    -- only with: walk

``makes`` is the table, ``reads`` the tables of other steps and the tables that are handed in (``given``); stored
tables, views and macros need no mention. More lines say when a step has nothing to say, or nobody needs it. Then its
table is made empty without asking the planner, which is what most steps of a small batch cost, or left alone where it
is empty already (``Rows``):

    -- only with: walk, node             each of these must have rows
    -- with any of: late_call, slice     one of these must have rows
    -- only where: node: failed(status)  a row of this table must fulfil this condition

All conditions on a table are looked up by one statement, when the first of them is asked for. ``only with`` right below
a `UNION ALL` (at the beginning of a line) is of that branch alone, which is left out where it has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import duckdb

from layerline_correlator.store.statements import execute, parsed, text

_HEAD = re.compile(r"-- ([a-z]+(?: [a-z]+)*): (.*)")
_KEYS = ("makes", "reads", "only with", "with any of", "only where")
_UNION = re.compile(r"^(UNION ALL(?: BY NAME)?)\n(?:-- only with: (.*)\n)?", re.MULTILINE)
_CREATE = re.compile(r"CREATE OR REPLACE TEMP TABLE (\w+) AS\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """One table, and what it is made of."""

    makes: str
    reads: tuple[str, ...]
    only_with: tuple[str, ...]
    with_any_of: tuple[str, ...]
    only_where: tuple[tuple[str, str], ...]
    """Tables, each with a condition that one of its rows must fulfil."""
    sql: str
    file: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The tables that must be made before, some perhaps twice."""
        asked = (table for table, _ in self.only_where)
        return (*self.reads, *self.only_with, *self.with_any_of, *asked)

    def run(self, cursor: duckdb.DuckDBPyConnection, parameters: Mapping[str, Any], rows: Rows) -> None:
        """Make the table and note in ``rows`` how many rows it has. ``rows`` knows all that the step reads."""
        if (empty := _EMPTY.get(self.sql)) and self.is_idle(cursor, rows):
            if self.makes not in rows.empty_before:
                execute(cursor, empty)
            rows[self.makes] = 0
            return
        made = execute(cursor, parsed(with_branches(self.sql, rows)), parameters)
        rows[self.makes] = made[-1][0][0]
        if self.sql not in _EMPTY and (self.only_with or self.with_any_of or self.only_where):
            _EMPTY[self.sql] = parsed(_without_rows(cursor, self.makes))

    def is_idle(self, cursor: duckdb.DuckDBPyConnection, rows: Rows) -> bool:
        """Whether it has nothing to say, judging by its head."""
        return (
            any(rows.get(name) == 0 for name in self.only_with)
            or (bool(self.with_any_of) and all(rows.get(name) == 0 for name in self.with_any_of))
            or not all(rows.holds(cursor, table, condition) for table, condition in self.only_where)
        )


class Rows(dict[str, int]):
    """How many rows each table has that was made in this pass.

    ``empty_before`` names the tables that an earlier pass on the same cursor left without rows: where their step has
    nothing to say they stay as they are. ``asked`` has the conditions by table that will be asked for (``holds``).
    """

    def __init__(self, empty_before: Iterable[str] = (), asked: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__()
        self.empty_before = frozenset(empty_before)
        self._asked = asked or {}
        self._held: dict[tuple[str, str], bool] = {}

    @classmethod
    def on(cls, cursor: duckdb.DuckDBPyConnection, asked: Mapping[str, Sequence[str]] | None = None) -> Rows:
        """Nothing is made yet; the cursor itself knows what earlier passes left."""
        found = cursor.execute(
            "SELECT table_name FROM duckdb_tables() WHERE temporary AND estimated_size = 0"
        ).fetchall()
        return cls((name for (name,) in found), asked)

    def holds(self, cursor: duckdb.DuckDBPyConnection, table: str, condition: str) -> bool:
        """Whether a row of a table that is made fulfils the condition. All that is asked of it is looked up at once."""
        if self.get(table) == 0:
            return False
        if (table, condition) not in self._held:
            listed = dict.fromkeys((*self._asked.get(table, ()), condition))
            facts = ", ".join(f"coalesce(bool_or({each}), false)" for each in listed)
            (answers,) = execute(cursor, parsed(f"SELECT {facts} FROM {table}"))[0]
            self._held |= {(table, each): bool(answer) for each, answer in zip(listed, answers, strict=True)}
        return self._held[table, condition]


#: How to make the table of a step that has nothing to say; known since it was made once in this process.
_EMPTY: dict[str, tuple[duckdb.Statement, ...]] = {}


def _without_rows(cursor: duckdb.DuckDBPyConnection, table: str) -> str:
    columns = cursor.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $table AND schema_name = 'main'"
        " AND database_name = 'temp' ORDER BY column_index",
        {"table": table},
    ).fetchall()
    listed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
    return f"CREATE OR REPLACE TEMP TABLE {table} ({listed})"


def with_branches(sql: str, rows: Mapping[str, int]) -> str:
    """The statement without the branches that have nothing to say, by the rows of the tables that their heads name."""
    first, *rest = _branches(sql)
    if not rest:
        return sql
    kept = [first]
    for union, only_with, branch in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        if not any(rows.get(name) == 0 for name in (only_with or "").replace(",", " ").split()):
            kept += [union, "\n", branch]
    return "".join(kept)


@cache
def _branches(sql: str) -> tuple[str, ...]:
    """The first branch, and of each further one its ``UNION ALL``, the tables that its head names, and itself."""
    return tuple(_UNION.split(sql))


def steps_of(sql: str, file: str) -> Iterator[Step]:
    """The steps of a file. ValueError names the file and what a head lacks."""
    for head, statement in _with_heads(sql):
        said: dict[str, list[str]] = {}
        # What stands above `-- makes:` is prose, and may have colons of its own.
        for key, value in _HEAD.findall(head[max(0, head.find("-- makes: ")) :]):
            said.setdefault(key, []).extend([value] if key == "only where" else value.replace(",", " ").split())
        made = _CREATE.match(statement)
        if made is None or said.get("makes") != [made[1]]:
            raise ValueError(
                f"{file}: expected CREATE OR REPLACE TEMP TABLE below a head that says `-- makes: TABLE`,"
                f" found {statement[:60]!r} below {said.get('makes')}"
            )
        if unknown := said.keys() - {*_KEYS}:
            raise ValueError(f"{file}: expected the head of {made[1]} to say {', '.join(_KEYS)}; found {unknown}")
        yield Step(
            makes=made[1],
            reads=tuple(said.get("reads", ())),
            only_with=tuple(said.get("only with", ())),
            with_any_of=tuple(said.get("with any of", ())),
            only_where=tuple(_condition(each, file) for each in said.get("only where", ())),
            sql=statement,
            file=file,
        )


def _condition(declared: str, file: str) -> tuple[str, str]:
    table, colon, condition = declared.partition(": ")
    if not colon or not table.isidentifier():
        raise ValueError(f"{file}: expected `-- only where: TABLE: CONDITION`, found {declared!r}")
    return table, condition


def steps_in(files: Iterable[str]) -> list[Step]:
    """The steps of these files, as they stand."""
    return [step for file in files for step in steps_of(text(file), file)]


def _with_heads(sql: str) -> Iterator[tuple[str, str]]:
    """Each statement without its trailing semicolon, and the comment lines right above it."""
    head: list[str] = []
    body: list[str] = []
    for line in sql.splitlines():
        if not body and (not line.strip() or line.startswith("--")):
            head = [] if not line.strip() else [*head, line]
            continue
        body.append(line)
        if line.rstrip().endswith(";") and not line.lstrip().startswith("--"):
            yield "\n".join(head), "\n".join(body).rstrip().removesuffix(";")
            head, body = [], []
    if body:
        yield "\n".join(head), "\n".join(body)


@dataclass(frozen=True)
class Graph:
    """Steps in an order in which each can be made. ``given`` are the tables that must be there before."""

    steps: tuple[Step, ...]
    given: frozenset[str]

    @classmethod
    def of(cls, files: Iterable[str], given: Collection[str] = ()) -> Graph:
        """The steps of these files (paths below the package). ValueError where one reads what nobody makes."""
        return cls.ordered(steps_in(files), given)

    @classmethod
    def ordered(cls, steps: Sequence[Step], given: Collection[str]) -> Graph:
        """The steps, each after what it reads, else as they stand."""
        makers: dict[str, Step] = {}
        for step in steps:
            if (other := makers.setdefault(step.makes, step)) is not step or step.makes in given:
                raise ValueError(f"{step.makes} is made twice: by {other.file} and by {step.file}")
        done: dict[str, Step] = {}

        def make(step: Step, waiting: tuple[str, ...]) -> None:
            if step.makes in waiting:
                raise ValueError(f"a ring: {' reads '.join((*waiting, step.makes))}")
            for name in step.needs:
                if name in makers:
                    if name not in done:
                        make(makers[name], (*waiting, step.makes))
                elif name not in given:
                    raise ValueError(f"{step.file}: {step.makes} reads {name}, which no step makes")
            done.setdefault(step.makes, step)

        for step in steps:
            make(step, ())
        return cls(tuple(done.values()), frozenset(given))

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The steps by the table that each makes."""
        return {step.makes: step for step in self.steps}

    @cached_property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """What is asked of each table before steps are made (``only where``)."""
        return conditions_by_table(condition for step in self.steps for condition in step.only_where)

    def for_the_sake_of(self, wanted: Iterable[str]) -> Graph:
        """Only what these tables are made of."""
        needed: set[str] = set()

        def want(name: str) -> None:
            if name in self.by_name and name not in needed:
                needed.add(name)
                for read in self.by_name[name].needs:
                    want(read)

        for name in wanted:
            want(name)
        return Graph(tuple(step for step in self.steps if step.makes in needed), self.given)

    def run(self, cursor: duckdb.DuckDBPyConnection, parameters: Mapping[str, Any], rows: Rows | None = None) -> Rows:
        """Make every table; how many rows each has. ``rows`` says so of what is there already."""
        counts = Rows(asked=self.asked) if rows is None else rows
        for step in self.steps:
            step.run(cursor, parameters, counts)
        return counts


def conditions_by_table(conditions: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The conditions on each table, each once."""
    found: dict[str, tuple[str, ...]] = {}
    for table, condition in conditions:
        if condition not in found.get(table, ()):
            found[table] = (*found.get(table, ()), condition)
    return found


@cache
def graph(files: tuple[str, ...], given: tuple[str, ...] = ()) -> Graph:
    """``Graph.of``, read once in the life of a process."""
    return Graph.of(files, given)
