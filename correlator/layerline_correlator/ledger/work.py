"""From spans and readings to ledgers, for a batch of traces at once.

The steps are the ``.sql`` files of this folder; what each makes and reads stands in its head, and their order follows
from that (``store/graph.py``). Then the causes take in turn (``rounds.py``), ``parts.sql`` adds up what they took and
refuses what does not add up, and ``keep.sql`` writes what came of it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import duckdb

from layerline_correlator.facts import join
from layerline_correlator.ledger.causes import Cause, all_causes
from layerline_correlator.ledger.rounds import LEFT_OVER, Plan, Taking, plan
from layerline_correlator.store.graph import Graph, Rows, Step, steps_in
from layerline_correlator.store.sealed import NEAR_NS, POINT, SPAN, within
from layerline_correlator.store.stale import mark_requests
from layerline_correlator.store.statements import execute, first_row, parsed, run, text

#: Spans of a trace are looked for this long around those that are known of.
AROUND_NS = NEAR_NS
#: Readings are looked for this long around: the longest interval that counts as a reading, and a little more.
READINGS_AROUND_NS = 130 * 10**9
#: A request is followed through its readings for this long.
LONGEST_NS = 3600 * 10**9
#: Readings of one batch are looked for within a time of this length: a trace of days is followed for its first hours.
READINGS_MOST_NS = 3 * LONGEST_NS
_END_OF_TIME = 2**63 - 1

#: The tables that ``keep.sql`` writes, each with a ``trace_id``.
TABLES = ("request", "part", "stay", "refused", "failure")
_INSERT = re.compile(r"INSERT INTO (\w+) BY NAME")
#: What stands before the names of the tables that are one cursor's.
_HERE = "here_"

_log = logging.getLogger("layerline.correlator")

#: From the spans of the batch to the critical paths; what a trace's page shows needs no more.
PATH = ("ledger/spans.sql", *join.FILES, "ledger/path.sql")
#: From there to what failed, and to what each span did with its own time.
PIECES = (*PATH, "ledger/failures.sql", "ledger/pieces.sql")
#: From there to what the causes read.
FILES = (
    *PIECES,
    "ledger/readings.sql",
    "ledger/facts.sql",
    "ledger/inferred.sql",
    "ledger/held_up.sql",
    "ledger/saturated.sql",
    "ledger/vm_limits.sql",
    "ledger/stolen.sql",
    "ledger/loaded_network.sql",
    "ledger/full_memory.sql",
    "ledger/full_pools.sql",
    "ledger/full_counts.sql",
    "ledger/behind_holder.sql",
    "ledger/container_lives.sql",
    "facts/usual.sql",
    "ledger/cold_start.sql",
    "ledger/neighbours.sql",
    "ledger/waiting_for_cpu.sql",
    "ledger/waiting_for_blocks.sql",
    "ledger/many_calls.sql",
    "ledger/retransmits.sql",
    "ledger/first_left.sql",
)


@cache
def paths() -> Graph:
    """The steps up to the critical paths."""
    return Graph.of(PATH, given=("batch",))


@cache
def _ledgers(causes: tuple[Cause, ...]) -> Plan:
    """All steps, and the rounds in which these causes take."""
    steps = [step if step.makes != "fact" else _with_declared_facts(step, causes) for step in steps_in(FILES)]
    return plan(Graph.ordered(steps, given=("batch", LEFT_OVER)), causes)


@cache
def pieces() -> Graph:
    """The steps up to what each span did with its own time."""
    return Graph.of(PIECES, given=("batch",))


@cache
def _parts() -> Graph:
    """The steps from evidence to parts."""
    return Graph.of(("ledger/parts.sql",), given=("evidence", "piece", "entry"))


def _with_declared_facts(step: Step, causes: Sequence[Cause]) -> Step:
    """The step that says what was measured, with the facts that causes declare in their headers."""
    declared = [
        f"SELECT request_no, visit_no, '{fact.name}' FROM measured_piece GROUP BY ALL HAVING {fact.where}"
        for cause in causes
        for fact in cause.facts
    ]
    return replace(step, sql="\nUNION ALL\n".join([step.sql, *declared]))


def work_out(
    cursor: duckdb.DuckDBPyConnection,
    trace_ids: Collection[str],
    from_ns: int,
    to_ns: int,
    *,
    readings: bool = True,
    before_commit: Callable[[], None] = lambda: None,
    now_ns: int | None = None,
) -> int:
    """Work out the ledgers of every request of these traces and replace what was stored of them, in one transaction.

    Returns how many were refused: their parts did not add up, and they are kept without any (table ``refused``).

    ``from_ns`` and ``to_ns`` bound the start of their spans. Without ``readings`` the spans alone are asked.
    ``before_commit`` adds to the transaction. ``now_ns``: when it is said to be worked out, where that is not now.
    """
    known_before, bounds = _begin(cursor, trace_ids, from_ns, to_ns)
    rows = _work_out(cursor, bounds, readings=readings)
    cursor.execute("BEGIN").fetchall()
    try:
        if known_before:
            mark_requests(cursor, bounds["from_ns"], bounds["to_ns"])
            run(cursor, "ledger/forget.sql", bounds)
        _keep(cursor, bounds, rows, now_ns=now_ns)
        mark_requests(cursor, bounds["from_ns"], bounds["to_ns"])
        before_commit()
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        cursor.execute("ROLLBACK").fetchall()
        raise
    return rows["refusal"]


def work_out_paths(cursor: duckdb.DuckDBPyConnection, trace_id: str, from_ns: int, to_ns: int) -> None:
    """Work out the critical paths of one trace and store nothing.

    The temporary tables (``node``, ``entry``, ``segment`` …) stay on the cursor to be read.
    """
    _, bounds = _begin(cursor, [trace_id], from_ns, to_ns)
    with within(cursor, *_around(bounds)):
        paths().run(cursor, bounds)


def work_out_evidence(
    cursor: duckdb.DuckDBPyConnection, trace_id: str, from_ns: int, to_ns: int, *, readings: bool = True
) -> None:
    """Work out the ledgers of one trace down to what each cause took of each span, and store nothing.

    The temporary tables (``node``, ``entry``, ``segment``, ``piece``, ``evidence``, ``refusal`` …) stay on the cursor
    to be read. Stored ledgers hold only the sums of this: of a span it is worked out when somebody looks at it.
    """
    _, bounds = _begin(cursor, [trace_id], from_ns, to_ns)
    _work_out(cursor, bounds, readings=readings)


def work_out_here(
    cursor: duckdb.DuckDBPyConnection, trace_id: str, from_ns: int, to_ns: int, *, readings: bool = True
) -> None:
    """Work out the ledgers of one trace for this cursor alone, which then reads them where it reads the stored ones.

    Nothing is stored, and nobody is waited for: what the tables of the ledger hold of this trace is hidden behind
    temporary views of their names. The cursor is of no use for anything else afterwards.
    """
    _, bounds = _begin(cursor, [trace_id], from_ns, to_ns)
    rows = _work_out(cursor, bounds, readings=readings)
    (stored,) = first_row(cursor.execute("SELECT current_database()")) or ("",)
    for table in (*TABLES, "blind_spot"):
        cursor.execute(f'CREATE TEMP TABLE {_HERE}{table} AS FROM "{stored}".main.{table} LIMIT 0').fetchall()
    _keep(cursor, bounds, rows, into=_HERE)
    for table in TABLES:
        cursor.execute(
            f'CREATE TEMP VIEW {table} AS FROM "{stored}".main.{table}'
            f" WHERE trace_id NOT IN (SELECT trace_id FROM {_HERE}request)"
            f" UNION ALL BY NAME FROM {_HERE}{table}"
        ).fetchall()
    cursor.execute(
        f'CREATE TEMP VIEW blind_spot AS FROM "{stored}".main.blind_spot UNION ALL BY NAME FROM {_HERE}blind_spot'
    ).fetchall()
    cursor.execute("CREATE TEMP VIEW blind AS FROM blind_in('request', 'blind_spot')").fetchall()


def _begin(
    cursor: duckdb.DuckDBPyConnection, trace_ids: Collection[str], from_ns: int, to_ns: int
) -> tuple[bool, dict[str, int]]:
    """Make the table ``batch``, with which the steps begin, and say what ``_widened`` says."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE batch AS SELECT unnest($ids::VARCHAR[]) AS trace_id", {"ids": list(trace_ids)}
    )
    return _widened(cursor, from_ns, to_ns)


def _work_out(cursor: duckdb.DuckDBPyConnection, bounds: dict[str, int], *, readings: bool = True) -> Rows:
    """Everything up to what ``keep.sql`` writes, in temporary tables, and how many rows each has."""
    whole = _ledgers(all_causes())
    with within(cursor, *_around(bounds)):
        rows = pieces().run(cursor, bounds, Rows.on(cursor, whole.asked))
    around = _readings(cursor) if readings else {"since_ns": 0, "until_ns": 0}
    with within(cursor, around["since_ns"], around["until_ns"] + 1, POINT, SPAN):
        Graph(tuple(step for step in whole.before.steps if step.makes not in rows), whole.before.given).run(
            cursor, around, rows
        )
        Taking(cursor, around, rows).run(whole.rounds)
    _parts().run(cursor, around, rows)
    if refused := rows["refusal"]:
        first = first_row(
            cursor.execute("SELECT trace_id || ': ' || why FROM refusal JOIN entry USING (request_no) ORDER BY ALL")
        )
        _log.error("%d ledgers do not add up and are kept without parts; the first: %s", refused, first and first[0])
    return rows


def _around(bounds: dict[str, int]) -> tuple[int, int]:
    """The time of the points that say where spans of these bounds came from."""
    return max(0, bounds["from_ns"] - READINGS_AROUND_NS), min(_END_OF_TIME, bounds["to_ns"] + READINGS_AROUND_NS)


def _keep(
    cursor: duckdb.DuckDBPyConnection, bounds: dict[str, int], rows: Rows, into: str = "", now_ns: int | None = None
) -> None:
    """Write what was worked out, tables of so many ``rows``; ``into`` is put before the names of those written to."""
    given = {**bounds, **_needs(all_causes()), "now_ns": time.time_ns() if now_ns is None else now_ns}

    def write(file: str) -> None:
        execute(cursor, parsed(_INSERT.sub(rf"INSERT INTO {into}\1 BY NAME", text(file))), given)

    write("ledger/keep.sql")
    if rows["refusal"]:
        write("ledger/keep_refused.sql")
    if rows["request_failure"]:
        write("ledger/keep_failures.sql")
    if first_row(cursor.execute("SELECT spot FROM viewpoint ANTI JOIN blind_spot USING (spot) LIMIT 1")):
        write("ledger/blind_spots.sql")


def _widened(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> tuple[bool, dict[str, int]]:
    """Whether requests of the batch are known already, and bounds so wide that all their spans are found.

    Leaves ``known_trace``, which says what was drawn for each (``verdict/triage.sql``): its ledger keeps that.
    Spans that come hours after the others of their trace do not have those worked out again.
    """
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE known_trace AS"
        " SELECT trace_id, min(start_ns) AS first_ns, max(end_ns) AS last_ns, max(planned) AS planned,"
        " bool_or(fair) AS fair FROM request SEMI JOIN batch USING (trace_id)"
        " WHERE end_ns >= $from_ns - $around_ns AND start_ns <= $to_ns::HUGEINT + $around_ns GROUP BY trace_id",
        {"from_ns": from_ns, "to_ns": to_ns, "around_ns": LONGEST_NS},
    ).fetchall()
    row = first_row(
        cursor.execute(
            "SELECT count(*) > 0, least($from_ns, min(first_ns)), greatest($to_ns, max(last_ns)) FROM known_trace",
            {"from_ns": from_ns, "to_ns": to_ns},
        )
    )
    known, first, last = row or (False, from_ns, to_ns)
    return known, {"from_ns": max(0, first - AROUND_NS), "to_ns": min(_END_OF_TIME, last + AROUND_NS)}


def _readings(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Where readings are looked for: around the visits, and not for longer than ``LONGEST_NS`` after the last began."""
    row = first_row(cursor.execute("SELECT min(from_ns), max(from_ns), max(to_ns) FROM measured_visit"))
    first, last, end = row if row and row[0] is not None else (0, 0, 0)
    since_ns = max(0, first - READINGS_AROUND_NS)
    return {
        "since_ns": since_ns,
        "until_ns": min(_END_OF_TIME, end + READINGS_AROUND_NS, last + LONGEST_NS, since_ns + READINGS_MOST_NS),
    }


@cache
def _needs(causes: tuple[Cause, ...]) -> dict[str, Any]:
    """What each cause needs, as columns: the cause, facts of which one would do, and to what it applies; and a word for
    all of it, which is another one when a cause needs something else.
    """
    needs = [
        (cause.name, sorted(facts), [list(words) for words in cause.applies])
        for cause in causes
        for facts in cause.needs
    ]
    names, facts, applies = map(list, zip(*needs, strict=True))
    return {"causes": names, "facts": facts, "applies": applies, "needs": repr(needs)}
