"""The SQL of the ledger and of the questions is a declared graph: what a step says of itself is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb
import pytest

from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.ledger.rounds import LEFT_OVER, plan
from layerline_correlator.ledger.work import FILES as LEDGER
from layerline_correlator.questions.changed import CHANGES, LOSSES
from layerline_correlator.questions.coverage import FILES as COVERAGE
from layerline_correlator.questions.samples import READINGS
from layerline_correlator.questions.timeline import BY_MINUTE, BY_ROW
from layerline_correlator.store.graph import Graph, Rows, Step, steps_in, steps_of
from layerline_correlator.summaries.cover import VIEWS
from layerline_correlator.tagquery import evaluate
from layerline_correlator.verdict.suspects import FILES as SUSPECTS
from layerline_correlator.verdict.triage import FILES as TRIAGE
from layerline_correlator.verdict.triage import GIVEN as TRIAGE_GIVEN

#: The graphs, and what each is handed. Where two share a file, it is the same step in both.
GRAPHS = {
    LEDGER: ("batch", LEFT_OVER),
    SUSPECTS: ("wanted_usual",),
    COVERAGE: VIEWS,
    ("ledger/parts.sql",): ("evidence", "piece", "entry"),
    TRIAGE: TRIAGE_GIVEN,
    LOSSES[0]: LOSSES[1],
    CHANGES[0]: CHANGES[1],
    READINGS[0]: READINGS[1],
    BY_ROW[0]: BY_ROW[1],
    BY_MINUTE[0]: BY_MINUTE[1],
    evaluate.BY_ROW[0]: evaluate.BY_ROW[1],
    evaluate.BY_MINUTE[0]: evaluate.BY_MINUTE[1],
}
STEPS = {step.sql: step for graph in GRAPHS for step in steps_in(graph)}
#: Made once for each question that begins with the same further steps, and once for each way to read a timeline or the
#: readings of a tag query.
BEGINNINGS = {"sighting", "called_at", "wanted_series", "wanted_reading"} | (
    {step.makes for step in steps_in(BY_ROW[0][1:])} & {step.makes for step in steps_in(BY_MINUTE[0][1:])}
)


@cache
def stored() -> set[str]:
    """The tables and views that a store holds."""
    texts = [file.read_text() for file in files("layerline_correlator").rglob("*.sql")]  # type: ignore[attr-defined]
    return {
        name
        for text in texts
        for name in re.findall(r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)", text)
    } | {"signal"}


@cache
def parser() -> duckdb.DuckDBPyConnection:
    """An empty database for all tests: opening one takes a hundred times as long as parsing a statement."""
    return duckdb.connect()


#: Table macros that read the table whose name they are given.
OF_A_TABLE = ("containers_of", "query_table")


@cache
def tables_and_ctes(sql: str) -> tuple[set[str], set[str]]:
    """The tables that a SELECT reads, and the names of its own common tables."""
    answer = parser().execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone()
    tree = json.loads(answer[0])  # type: ignore[index]
    assert not tree.get("error"), f"{tree.get('error_message')} in {sql[:200]}"
    tables: set[str] = set()
    ctes: set[str] = set()

    def walk(node: Any, scope: frozenset[str]) -> None:
        if isinstance(node, dict):
            if (own := (node.get("cte_map") or {}).get("map")) is not None:
                names = [entry["key"] for entry in own]
                ctes.update(names)
                scope |= frozenset(names)
            if node.get("type") == "BASE_TABLE" and node.get("table_name") not in scope:
                tables.add(node["table_name"])
            if node.get("function_name") in OF_A_TABLE:
                tables.add(node["arguments"][0]["expression"]["literal"]["text"])
            for value in node.values():
                walk(value, scope)
        elif isinstance(node, list):
            for value in node:
                walk(value, scope)

    walk(tree, frozenset())
    return tables, ctes


def body(step: Step) -> str:
    return step.sql.partition(" AS\n")[2]


def every_step() -> Iterator[Any]:
    for step in STEPS.values():
        yield pytest.param(step, id=f"{step.file}: {step.makes}")


@pytest.mark.parametrize("graph", [pytest.param(graph, id=graph[-1]) for graph in GRAPHS])
def test_what_is_read_is_made_before(graph: tuple[str, ...]) -> None:
    """In every graph each step comes after those it reads, however the files are written."""
    made = set(GRAPHS[graph])
    for step in Graph.ordered(list(reversed(steps_in(graph))), GRAPHS[graph]).steps:
        assert set(step.reads) <= made, f"{step.makes} reads {set(step.reads) - made} before it is made"
        made.add(step.makes)


@pytest.mark.parametrize("step", list(every_step()))
def test_a_step_says_what_it_reads(step: Step) -> None:
    """The head of a step lists the tables of other steps that its statement reads, no more and no fewer."""
    made = {each.makes for each in STEPS.values()} | {name for given in GRAPHS.values() for name in given}
    tables, _ = tables_and_ctes(body(step))
    assert tables & made == set(step.reads)
    unknown = tables - made - stored()
    assert not unknown, f"{step.makes} reads {unknown}, which nobody makes"


@pytest.mark.parametrize("cause", all_causes(), ids=lambda cause: cause.name)
def test_a_cause_says_what_it_reads(cause: Any) -> None:
    """The header of a cause lists the tables of the ledger that its body reads, no more and no fewer."""
    tables, ctes = tables_and_ctes(cause.sql)
    assert tables - stored() == set(cause.reads)
    assert not ctes & ({each.makes for each in STEPS.values()} | stored())


def test_a_name_means_one_thing() -> None:
    """Tables of steps, stored tables and common tables all have names of their own."""
    makers: dict[str, list[Step]] = {}
    for step in STEPS.values():
        makers.setdefault(step.makes, []).append(step)
    twice = {name: [step.file for step in steps] for name, steps in makers.items() if len(steps) > 1}
    assert set(twice) <= BEGINNINGS, f"made in several places: {twice}"
    assert not set(makers) & stored(), f"made by a step and stored: {set(makers) & stored()}"
    taken = set(makers) | stored() | {LEFT_OVER}
    clashes = {f"{step.file}: {name}" for step in STEPS.values() for name in tables_and_ctes(body(step))[1] & taken}
    assert not clashes, f"a table and a common table of one name: {sorted(clashes)}"


def test_nothing_is_changed_after_it_was_made() -> None:
    """A file of steps makes tables and does nothing else: no step inserts, updates or deletes."""
    for graph in GRAPHS:
        for file in graph:
            text = re.sub(r"--[^\n]*", "", (files("layerline_correlator") / file).read_text(encoding="utf-8"))
            assert not re.search(r"^\s*(INSERT|UPDATE|DELETE|DROP|ALTER)\b", text, re.MULTILINE), file


def test_the_order_of_causes_is_free() -> None:
    """A cause moved to another place still finds what it reads: no step is missing, in whatever order causes take."""
    from dataclasses import replace

    graph = Graph.of(LEDGER, GRAPHS[LEDGER])
    for cause in all_causes():
        for order in (5, 305, 405, 905):
            moved = [replace(cause, order=order), *(other for other in all_causes() if other is not cause)]
            plan(graph, sorted(moved, key=lambda each: (each.order, each.name)))


def test_a_head_that_says_something_else_is_refused() -> None:
    """A head that names another table than its statement makes is an error that names the file."""
    with pytest.raises(ValueError, match=r"some\.sql"):
        list(steps_of("-- makes: one\nCREATE OR REPLACE TEMP TABLE other AS SELECT 1;\n", "some.sql"))


def test_a_head_with_an_unknown_word_is_refused() -> None:
    """A word that heads do not have is an error that names it: a misspelled or old one is not passed over."""
    sql = "-- Prose, for example: this.\n-- makes: one\n{}CREATE OR REPLACE TEMP TABLE one AS FROM two;\n"
    assert [step.reads for step in steps_of(sql.format("-- reads: two\n"), "some.sql")] == [("two",)]
    with pytest.raises(ValueError, match=r"some\.sql.*of one to say.*'empty without'"):
        list(steps_of(sql.format("-- reads: two\n-- empty without: two\n"), "some.sql"))


def test_a_ring_is_refused() -> None:
    """Two steps that read each other have no order, and the message names both."""
    text = (
        "-- makes: a\n-- reads: b\nCREATE OR REPLACE TEMP TABLE a AS FROM b;\n\n"
        "-- makes: b\n-- reads: a\nCREATE OR REPLACE TEMP TABLE b AS FROM a;\n"
    )
    with pytest.raises(ValueError, match="ring: a reads b reads a"):
        Graph.ordered(list(steps_of(text, "some.sql")), ())


def test_a_table_that_is_empty_is_left_as_it_is() -> None:
    """Where a step has nothing to say, a table that an earlier pass left without rows is not made again, others are."""
    sql = (
        "-- makes: source\nCREATE OR REPLACE TEMP TABLE source AS SELECT unnest(range($rows)) AS number;\n\n"
        "-- makes: copied\n-- reads: source\n-- only with: source\n"
        "CREATE OR REPLACE TEMP TABLE copied AS SELECT number + 1 AS next FROM source;\n"
    )
    small = Graph.ordered(list(steps_of(sql, "some.sql")), ())
    with duckdb.connect() as connection:

        def made(rows: int) -> tuple[dict[str, int], int]:
            """How many rows each table has after a pass, and which table `copied` is."""
            counts = small.run(connection, {"rows": rows}, Rows.on(connection))
            number = connection.execute("SELECT table_oid FROM duckdb_tables() WHERE table_name = 'copied'").fetchall()
            assert len(connection.execute("FROM copied").fetchall()) == counts["copied"]
            return dict(counts), number[0][0]

        filled, first = made(2)
        emptied, second = made(0)
        still_empty, third = made(0)
        filled_again, fourth = made(2)
    assert filled == filled_again == {"source": 2, "copied": 2}
    assert emptied == still_empty == {"source": 0, "copied": 0}
    assert first != second == third != fourth


def test_a_step_of_which_no_row_fulfils_the_condition_is_left_out() -> None:
    """A step is not made where no row fulfils what its head asks, and all that is asked of a table is one statement."""
    sql = (
        "-- makes: source\nCREATE OR REPLACE TEMP TABLE source AS SELECT unnest(range($rows)) AS number;\n\n"
        "-- makes: large\n-- reads: source\n-- only where: source: number >= 4\n"
        "CREATE OR REPLACE TEMP TABLE large AS SELECT number, $told AS told FROM source WHERE number >= 4;\n\n"
        "-- makes: one\n-- reads: source\n-- only where: source: number = 1\n"
        "CREATE OR REPLACE TEMP TABLE one AS FROM source WHERE number = 1;\n\n"
        "-- makes: either\n-- reads: large, one\n-- with any of: large, one\n"
        "CREATE OR REPLACE TEMP TABLE either AS SELECT number FROM large UNION ALL FROM one;\n"
    )
    steps = Graph.ordered(list(steps_of(sql, "some.sql")), ())
    assert steps.asked == {"source": ("number >= 4", "number = 1")}
    with duckdb.connect() as connection:

        def made(rows: int) -> dict[str, int]:
            return dict(steps.run(connection, {"rows": rows, "told": rows}, Rows.on(connection, steps.asked)))

        assert made(5) == {"source": 5, "large": 1, "one": 1, "either": 2}
        assert made(2) == {"source": 2, "large": 0, "one": 1, "either": 1}
        assert connection.execute("FROM large").fetchall() == []
        assert made(1) == {"source": 1, "large": 0, "one": 0, "either": 0}
        assert connection.execute("FROM either").fetchall() == []
        assert made(5) == {"source": 5, "large": 1, "one": 1, "either": 2}


def test_a_condition_without_its_table_is_refused() -> None:
    """A condition that does not say of which table is an error that names what was found."""
    sql = "-- makes: one\n-- reads: two\n-- only where: number > 1\nCREATE OR REPLACE TEMP TABLE one AS FROM two;\n"
    with pytest.raises(ValueError, match=r"some\.sql: expected .*TABLE: CONDITION.*'number > 1'"):
        list(steps_of(sql, "some.sql"))
