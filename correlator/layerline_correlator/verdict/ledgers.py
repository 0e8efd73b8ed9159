"""Rows of the table ``request``, and the ledgers behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb

from layerline.aliases import AGENT
from layerline_correlator.ledger.causes import facts as fact_words
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, within
from layerline_correlator.store.statements import text
from layerline_correlator.verdict.judge import Ledger, LedgerPart, Ran, Unseen, Usual
from layerline_correlator.verdict.model import Join

#: Of how long before the last request readings tell how often they are taken; and a fifth of it after.
_READ_NS = 10 * 60 * 10**9

_STATUS = ("unset", "ok", "error")


def status_word(status: int) -> str:
    """``unset``, ``ok`` or ``error`` for OTLP's status code."""
    return _STATUS[status] if 0 <= status < len(_STATUS) else _STATUS[0]


class Request(NamedTuple):
    """A row of the table ``request``."""

    trace_id: str
    span_id: str
    service: str
    operation: str
    start_ns: int
    duration_ns: int
    status: int
    unexplained_ns: int
    skew_adjusted_ns: int
    usual_ns: int | None
    slow: bool
    cause: str | None
    join_method: str | None
    join_confidence: float
    judged_ns: int
    join_reason: str | None


def select_requests(cursor: duckdb.DuckDBPyConnection, where: str, values: dict[str, Any]) -> list[Request]:
    """The requests for which this SQL holds. It may end with QUALIFY, ORDER BY and LIMIT."""
    rows = cursor.execute(
        "SELECT trace_id, span_id, service, operation, start_ns, end_ns - start_ns, status, unexplained_ns,"
        " skew_adjusted_ns, usual_ns, slow, cause, join_method, join_confidence, judged_ns, join_reason"
        f" FROM request WHERE {where}",
        values,
    ).fetchall()
    return [Request(*row) for row in rows]


def around(rows: Sequence[Request]) -> tuple[int, int]:
    """The first start and the last end. ValueError when there is none."""
    return min(row.start_ns for row in rows), max(row.start_ns + row.duration_ns for row in rows)


#: What the view ``blind`` has of the requests in ``wanted_usual``, with their numbers. By the start first: a number is
#: compared quickly, and nearly all rows are of other requests.
WANTED_BLIND = (
    "(SELECT request_no, unseen.* FROM (SELECT request_no, unnest(blind_spots) AS spot FROM wanted_usual"
    " JOIN (FROM request SEMI JOIN wanted_usual USING (start_ns)) AS kept USING (trace_id, span_id, start_ns)) AS seen"
    " JOIN blind_spot AS unseen ON unseen.spot = seen.spot WHERE cause IS NOT NULL)"
)


def want_usual(cursor: duckdb.DuckDBPyConnection, rows: Sequence[Request]) -> None:
    """Make ``wanted_usual`` of these requests: what ``facts/usual.sql`` begins with. Numbers are places in ``rows``."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_usual AS SELECT unnest($numbers) AS request_no,"
        " unnest($traces) AS trace_id, unnest($spans) AS span_id, unnest($services) AS service,"
        " unnest($operations) AS operation, unnest($starts) AS start_ns, unnest($ends) AS end_ns",
        {
            "numbers": list(range(len(rows))),
            "traces": [row.trace_id for row in rows],
            "spans": [row.span_id for row in rows],
            "services": [row.service for row in rows],
            "operations": [row.operation for row in rows],
            "starts": [row.start_ns for row in rows],
            "ends": [row.start_ns + row.duration_ns for row in rows],
        },
    ).fetchall()


def unseen(
    cause: str,
    service: str,
    facts: list[str],
    why: str | None,
    foreign: bool,
    host: str | None,
    agent_reads: bool,
    language: str | None = None,
    sources: tuple[str, ...] = (),
) -> Unseen:
    """A row of the view ``blind``: a cause, and the facts of which one would do but none was measured."""
    return Unseen(
        cause,
        blind_reason(service, facts, why),
        foreign,
        service,
        host,
        agent_reads,
        account=facts == ["layerline.account"],
        only_wrapper=all(fact.startswith("layerline.") for fact in facts),
        only_agent=not any(fact.startswith("layerline.") for fact in facts),
        language=language,
        sources=sources,
    )


def readers(cursor: duckdb.DuckDBPyConnection) -> dict[str | None, tuple[str, ...]]:
    """Who reads the containers of each machine, besides our agent; under None those of all machines."""
    found = cursor.execute(
        "SELECT host, list(DISTINCT source ORDER BY source) FROM series"
        " WHERE signal = 'container.cpu.time' AND source <> $agent GROUP BY host",
        {"agent": AGENT},
    ).fetchall()
    by_host: dict[str | None, tuple[str, ...]] = {host: tuple(sources) for host, sources in found if host is not None}
    by_host[None] = tuple(sorted({source for _, sources in found for source in sources}))
    return by_host


def other_languages(cursor: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The language of each service that the wrapper cannot start, because its SDK says that it is not in Python."""
    found = cursor.execute(
        "SELECT service, max(attributes['telemetry.sdk.language']) AS language FROM resource"
        " WHERE service IS NOT NULL AND attributes['telemetry.sdk.language'] IS NOT NULL"
        " GROUP BY service HAVING bool_and(attributes['telemetry.sdk.language'] <> 'python')"
    )
    return dict(found.fetchall())


def usual_durations(cursor: duckdb.DuckDBPyConnection, rows: Sequence[Request]) -> dict[int, int]:
    """The usual duration of each request that has one, by its place in ``rows``."""
    want_usual(cursor, rows)
    graph(("facts/usual.sql",), ("wanted_usual",)).for_the_sake_of(["usual"]).run(cursor, {})
    return dict(cursor.execute("SELECT request_no, usual_ns FROM usual").fetchall())


def read_ledgers(
    cursor: duckdb.DuckDBPyConnection, rows: Sequence[Request], settle_ns: int
) -> tuple[list[Ledger], list[Usual | None]]:
    """The ledgers of these requests and the usual of each."""
    if not rows:
        return [], []
    want_usual(cursor, rows)
    graph(("facts/usual.sql",), ("wanted_usual",)).run(cursor, {})
    usual_ns = dict(cursor.execute("SELECT request_no, usual_ns FROM usual").fetchall())
    parts = _parts_of(cursor, rows)
    usual_parts = _usual_parts(cursor)
    blind: dict[int, list[Unseen]] = defaultdict(list)
    languages, read_by = other_languages(cursor), readers(cursor)
    # Thousands of requests have few different reasons: each is handed over once, with the requests that have it.
    for cause, service, facts, why, foreign, host, agent_reads, numbers in cursor.execute(
        "SELECT cause, service, facts, why, coalesce(foreign_readings, false) AS foreign_readings, host,"
        " coalesce(agent_reads, false) AS agent_reads, list(DISTINCT request_no) AS numbers"
        f" FROM {WANTED_BLIND} GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        sources = read_by.get(host, read_by[None])
        one = unseen(cause, service, facts, why, foreign, host, agent_reads, languages.get(service), sources)
        for number in numbers:
            blind[number].append(one)
    ledgers = [
        Ledger(
            trace_id=row.trace_id,
            span_id=row.span_id,
            service=row.service,
            operation=row.operation,
            start_ns=row.start_ns,
            duration_ns=row.duration_ns,
            unexplained_ns=row.unexplained_ns,
            parts=tuple(parts[number]),
            blind=tuple(blind[number]),
            join=Join(row.join_method, row.join_confidence, row.skew_adjusted_ns, row.join_reason),
            settled=row.judged_ns >= row.start_ns + row.duration_ns + settle_ns,
        )
        for number, row in enumerate(rows)
    ]
    usuals = [
        Usual(usual_ns[number], tuple(usual_parts[number])) if number in usual_ns else None
        for number in range(len(rows))
    ]
    return ledgers, usuals


def blind_reason(service: str, facts: list[str], why: str | None) -> str:
    """``web: the busy time of the disks was not measured``."""
    missing = list(dict.fromkeys(fact_words().get(fact, fact) for fact in facts))  # two facts may have the same words
    verb = "were" if len(missing) > 1 else "was"
    return f"{service}: {' and '.join(missing)} {verb} not measured{f' ({why})' if why else ''}"


def _parts_of(cursor: duckdb.DuckDBPyConnection, rows: Sequence[Request]) -> dict[int, list[LedgerPart]]:
    found = cursor.execute(
        "SELECT request_no, cause, part.service, entity_type, entity_id, lost_ns, low_ns, high_ns, inferred,"
        " neighbours, because, place,"
        " coalesce(dependency, ''), coalesce(dependency_type, ''), coalesce(statement, '')"
        " FROM wanted_usual JOIN part USING (trace_id, span_id, start_ns) ORDER BY request_no, lost_ns DESC, cause"
    ).fetchall()
    inferred_in: dict[str, int] = {}  # until when the last request lasted in which something was inferred of it
    for number, _, _, kind, identity, _, _, _, inferred, *_ in found:
        if inferred and kind in ("container", "host"):
            end_ns = rows[number].start_ns + rows[number].duration_ns
            inferred_in[identity] = max(end_ns, inferred_in.get(identity, 0))
    read = _readings(cursor, inferred_in)
    parts: dict[int, list[LedgerPart]] = defaultdict(list)
    for (
        number,
        cause,
        service,
        kind,
        identity,
        lost_ns,
        low_ns,
        high_ns,
        inferred,
        neighbours,
        because,
        place,
        *dependency,
    ) in found:
        ran = tuple(Ran(**neighbour) for neighbour in neighbours or ())
        part = LedgerPart(
            *(cause, service, kind, identity, lost_ns, low_ns, high_ns, inferred, ran, because or "", place),
            *dependency,
        )
        if inferred and identity in read:
            every_ns, source, in_a_pod = read[identity]
            part = replace(part, every_ns=every_ns, source=source, in_a_pod=in_a_pod)
        parts[number].append(part)
    return parts


def _readings(cursor: duckdb.DuckDBPyConnection, inferred_in: Mapping[str, int]) -> dict[str, tuple[int, str, bool]]:
    """Of containers and machines, by their ids, around the last of these times: how far apart their readings are, who
    reads them ("": nothing tells), and whether they are part of a pod.
    """
    if not inferred_in:
        return {}
    until_ns = max(inferred_in.values())
    bounds = max(0, until_ns - _READ_NS), until_ns + _READ_NS // 5
    with within(cursor, *bounds, POINT):
        rows = cursor.execute(
            text("verdict/readings_of.sql"), {"ids": list(inferred_in), "from_ns": bounds[0], "to_ns": bounds[1]}
        ).fetchall()
    return {identity: (every_ns, source, in_a_pod) for identity, every_ns, source, in_a_pod in rows}


def _usual_parts(cursor: duckdb.DuckDBPyConnection) -> dict[int, list[LedgerPart]]:
    """The mean parts of each usual, and the means of their bounds. Shares round down, so that they never add up to more
    than the usual.
    """
    parts: dict[int, list[LedgerPart]] = defaultdict(list)
    for number, dependency, cause, service, kind, identity, lost_ns, low_ns, high_ns in cursor.execute(
        "SELECT request_no, coalesce(any_value(dependency), ''),"
        " cause, part.service, entity_type, arg_max(entity_id, part.start_ns),"
        " floor(sum(lost_ns) / any_value(members))::BIGINT AS mean_ns,"
        " floor(sum(low_ns) / any_value(members))::BIGINT, ceil(sum(high_ns) / any_value(members))::BIGINT"
        " FROM usual_member JOIN usual USING (request_no) JOIN part USING (trace_id, span_id, start_ns)"
        " GROUP BY request_no, cause, part.service, entity_type,"
        " CASE WHEN entity_type = 'service' THEN entity_id ELSE '' END HAVING mean_ns > 0"
    ).fetchall():
        part = LedgerPart(cause, service, kind, identity, lost_ns, low_ns, high_ns, dependency=dependency)
        parts[number].append(part)
    return parts
