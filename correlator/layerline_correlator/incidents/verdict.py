"""One verdict for the affected requests of an incident, and the culprits of one operation's trouble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.group import Blamed
from layerline_correlator.store.statements import first_row, run
from layerline_correlator.verdict.failures import read_concerned_failures
from layerline_correlator.verdict.judge import Ledger, Usual, judge
from layerline_correlator.verdict.ledgers import Request, read_ledgers, select_requests
from layerline_correlator.verdict.model import Failure, Verdict

#: A request is slow when it took this much longer than usual, at least (judge.is_slow).
SLOW_BY_NS = 50_000_000
#: Affected requests that a verdict adds up, at most, and those that tell who is to blame for one operation's trouble.
MOST, FEW = 500, 100

_OUTERMOST = """
CREATE OR REPLACE TEMP TABLE judged AS
SELECT trace_id, span_id, start_ns FROM (
    SELECT trace_id, span_id, start_ns FROM concerned WHERE affected AND NOT shared AND weight > 0
    QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY duration_ns DESC, start_ns, span_id) = 1
) AS outermost
ORDER BY md5(trace_id || span_id) LIMIT $most
"""


def concern(cursor: duckdb.DuckDBPyConnection, troubles: Sequence[str]) -> None:
    """Leave the requests of these troubles in the table ``concerned``, and whether each was affected."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE asked_trouble AS SELECT unnest($keys::VARCHAR[]) AS trouble",
        {"keys": list(troubles)},
    ).fetchall()
    run(cursor, "incidents/affected.sql")


def choose(cursor: duckdb.DuckDBPyConnection, most: int = MOST) -> list[Request]:
    """Of what is ``concerned``, the affected requests to judge: of each trace the outermost, picked by their ids.

    Those of the operation that most of them belong to come first, each in order of start. What two faults share says
    little of either and is left out.
    """
    cursor.execute(_OUTERMOST, {"most": most}).fetchall()
    rows = select_requests(
        cursor,
        "(trace_id, span_id) IN (SELECT trace_id, span_id FROM judged)"
        " AND start_ns BETWEEN (SELECT min(start_ns) FROM judged) AND (SELECT max(start_ns) FROM judged)"
        " ORDER BY start_ns, span_id",
        {},
    )
    return in_order(rows)


def in_order(rows: Sequence[Request]) -> list[Request]:
    """Requests that are given in order of start, those of the operation that most of them belong to first."""
    counts = Counter((row.service, row.operation) for row in rows)
    return sorted(rows, key=lambda row: (-counts[row.service, row.operation], row.service, row.operation))


def judge_window(
    ledgers: Sequence[Ledger], usuals: Sequence[Usual | None], names: Names, counted: tuple[int, int] | None = None
) -> Verdict | None:
    """The verdict of the first ledger's operation, over all of its ledgers; None where nothing was affected.

    A verdict names one operation, so its parts, lines of code and counts are that operation's alone. ``counted`` is how
    many requests the operation had and how many of them were affected; without, as many as are judged.
    """
    if not ledgers:
        return None
    operation = _operation(ledgers[0])
    together = [
        (ledger, usual) for ledger, usual in zip(ledgers, usuals, strict=True) if _operation(ledger) == operation
    ]
    requests, affected = counted or (len(together), len(together))
    return judge(
        [ledger for ledger, _ in together],
        [usual for _, usual in together],
        names.entity,
        window=True,
        received=requests,
        slow=affected,
    )


def _operation(ledger: Ledger) -> tuple[str, str]:
    return ledger.service, ledger.operation


def is_of_errors(cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether what is ``concerned`` failed more than it was slow: then no time is to blame, whatever took it.

    Of the affected requests at least half failed. Where time is what is wrong (a limit makes calls run into their
    timeouts), requests that succeed are slow too, and more than those that fail; where all fail, the error is what is
    known.
    """
    row = first_row(
        cursor.execute(
            "SELECT count(*) FILTER (affected), count(*) FILTER (affected AND failed(status)),"
            " (SELECT bool_or(list_has_any(signs, ['error', 'slo']))"
            " FROM trouble SEMI JOIN asked_trouble USING (trouble))"
            " FROM concerned"
        )
    )
    affected, errors, counts = row or (0, 0, False)
    return bool(counts) and errors > 0 and 2 * errors >= affected


def failures_of(
    cursor: duckdb.DuckDBPyConnection, operation: tuple[str, str] | None, start_ns: int, names: Names
) -> list[Failure]:
    """How the affected requests of this operation failed, of what is ``concerned``."""
    return [] if operation is None else read_concerned_failures(cursor, operation, start_ns, names.entity)


def culprits_of(
    cursor: duckdb.DuckDBPyConnection, trouble: str, start_ns: int, names: Names, settle_ns: int
) -> tuple[tuple[Blamed, ...], frozenset[str], tuple[str, ...] | None]:
    """Who is to blame for one operation's trouble, traces that it was seen in, and what fails, where errors are it.

    What fails is a dependency, whatever its callers say of it; else a service with the type of its error.
    """
    concern(cursor, [trouble])
    rows = choose(cursor, FEW)
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    verdict = judge_window(ledgers, usuals, names)
    traces = frozenset(
        trace_id
        for (trace_id,) in cursor.execute(
            "SELECT DISTINCT trace_id FROM concerned WHERE affected AND NOT shared"
        ).fetchall()
    )
    if not rows or not is_of_errors(cursor):
        return (blamed(verdict) if verdict else ()), traces, None
    first = next(iter(failures_of(cursor, (rows[0].service, rows[0].operation), start_ns, names)), None)
    if first is None:
        return (), traces, None
    if first.dependency:
        return (), traces, ("dependency", first.entity.id)
    return (), traces, ("service", first.service, first.type or first.status_code or "")


def leader(
    cursor: duckdb.DuckDBPyConnection, troubles: Sequence[str], from_ns: int, to_ns: int, names: Names, settle_ns: int
) -> Blamed | None:
    """Who was most to blame for what began in [from_ns, to_ns); None where no time is to blame, or nothing began."""
    concern(cursor, troubles)
    cursor.execute(
        "DELETE FROM concerned WHERE start_ns < $from_ns OR start_ns >= $to_ns", {"from_ns": from_ns, "to_ns": to_ns}
    ).fetchall()
    rows = choose(cursor, FEW)
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    verdict = judge_window(ledgers, usuals, names)
    return next(iter(blamed(verdict)), None) if verdict else None


def blamed(verdict: Verdict) -> tuple[Blamed, ...]:
    """The culprits of a verdict, each with the service whose time it was.

    None where the requests were not slower than usual by what makes one slow: they failed, and no time is to blame.
    """
    if verdict.excess_ns is not None and verdict.excess_ns < SLOW_BY_NS * (verdict.judged or 1):
        return ()
    operation = f"{verdict.service} {verdict.operation}"
    culprits = []
    for culprit in verdict.culprits:
        # Parts are ranked: of several services that lost time to it, the one that lost most.
        part = next(part for part in verdict.parts if part.cause == culprit.cause and part.entity == culprit.entity)
        function = f"{part.where['function']} {part.where['file']}" if part.where else ""
        culprits.append(
            Blamed(
                culprit.cause,
                part.service,
                culprit.entity.type,
                culprit.entity.id,
                culprit.share_of_excess,
                operation,
                function,
            )
        )
    return tuple(culprits)
