"""Everything that is said of one incident, worked out from what the store holds of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from layerline_correlator.entity import Entity, Naming
from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.changes import AFTER_NS, BEFORE_NS, Happened, Path, judge_changes, neighbours_of
from layerline_correlator.incidents.detect import STEP_NS
from layerline_correlator.incidents.group import Blamed
from layerline_correlator.incidents.lift import Count, radius, shares
from layerline_correlator.incidents.model import (
    Change,
    Excess,
    ExcessSeries,
    Explained,
    FirstSign,
    Hit,
    Incident,
    Radius,
    Without,
)
from layerline_correlator.incidents.signs import LATE_CALLS, OF_CALLS
from layerline_correlator.incidents.verdict import (
    FEW,
    blamed,
    choose,
    concern,
    failures_of,
    is_of_errors,
    judge_window,
)
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.ledger.work import READINGS_AROUND_NS
from layerline_correlator.store.sealed import POINT, SPAN, within
from layerline_correlator.store.statements import first_row, run, text
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.edges import EdgeChange, read_edges
from layerline_correlator.verdict.failures import timeless
from layerline_correlator.verdict.judge import Ledger, Usual, of_service
from layerline_correlator.verdict.ledgers import read_ledgers, select_requests
from layerline_correlator.verdict.model import Failure, Part, Verdict

#: Time around an incident that its series show, and how many steps they have, at most.
AROUND_NS, STEPS = 60 * 10**9, 120
#: Series shown, and culprits whose counterfactual is worked out.
_SERIES, _CULPRITS = 10, 3
#: A layer gave a sign when a request lost so much more than usual to one of its causes, and a tenth of its excess.
_SIGN_NS, _SIGN_SHARE = 20_000_000, 0.1
#: Layers with less of the excess than this gave none.
_LAYER_SHARE = 0.05
_EARLIEST = 60
#: Edges that are told; they are compared over the beginning of the incident, with the time before it.
_EDGES, _EDGES_NS, _EDGES_BEFORE_NS = 5, 300 * 10**9, 900 * 10**9
#: What is left out after another incident.
_EDGES_SETTLE_NS = 10 * 10**9


def describe(
    cursor: duckdb.DuckDBPyConnection, incident: str, names: Names, settle_ns: int, *, settled: bool
) -> Incident:
    """The incident as it is known now. LookupError when there is none with this id."""
    row = first_row(
        cursor.execute(
            "SELECT start_ns, end_ns, noticed_ns FROM incident WHERE incident = $incident", {"incident": incident}
        )
    )
    if row is None:
        raise LookupError(f"there is no incident {incident}")
    start_ns, end_ns, noticed_ns = row
    troubles = [
        key
        for (key,) in cursor.execute(
            "SELECT trouble FROM trouble WHERE incident = $incident ORDER BY start_ns, trouble", {"incident": incident}
        ).fetchall()
    ]
    concern(cursor, troubles)
    rows = choose(cursor)
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    hits = _hits(cursor)
    first = (rows[0].service, rows[0].operation) if rows else None
    counted = {(hit.service, hit.operation): (hit.requests, hit.affected) for hit in hits}
    verdict = judge_window(ledgers, usuals, names, counted[first] if first else None)
    failures = failures_of(cursor, first, start_ns, names)
    of_errors = is_of_errors(cursor) and bool(failures)
    if verdict and first and failures:
        verdict = replace(verdict, failures=failures, errors=_errors(hits, first))
    if verdict and of_errors:
        verdict = timeless(verdict)
    culprits = blamed(verdict) if verdict and not of_errors else ()
    requests, affected, last_ns = cursor.execute(
        "SELECT count(DISTINCT trace_id), count(DISTINCT trace_id) FILTER (affected),"
        " coalesce(max(start_ns), $start_ns) FROM concerned",
        {"start_ns": start_ns},
    ).fetchall()[0]
    name = _as_named(verdict, names.entity)
    around = _Around(start_ns, end_ns if end_ns is not None else last_ns + 1)
    _front(cursor, around, ledgers, usuals)
    counts, of_hit = _counts(cursor, hits, culprits, first, 0)
    compared, _ = _counts(cursor, hits, (), first, BEFORE_NS)
    edges = _edges(cursor, incident, around)
    blamed_entities = [culprit.entity for culprit in verdict.culprits] if verdict and culprits else []
    conclusive = (
        2 * failures[0].requests >= sum(failure.requests for failure in failures)
        if of_errors
        else bool(verdict and verdict.conclusive and culprits)
    )
    return Incident(
        id=incident,
        state="open" if end_ns is None else "ended",
        start=rfc3339(start_ns),
        end=None if end_ns is None else rfc3339(end_ns),
        noticed=rfc3339(noticed_ns),
        duration_ns=None if end_ns is None else end_ns - start_ns,
        services=sorted({hit.service for hit in hits}),
        operations=[[hit.service, hit.operation] for hit in hits],
        requests=requests,
        affected=affected,
        cause=culprits[0].cause if culprits else None,
        entity=blamed_entities[0] if blamed_entities else failures[0].entity if of_errors else None,
        conclusive=conclusive,
        summary=_summary(
            hits,
            culprits,
            blamed_entities,
            first,
            failures,
            edges,
            _late_callee(cursor),
            of_errors=of_errors,
            is_open=end_ns is None,
            conclusive=conclusive,
        ),
        kind="errors" if of_errors else "time",
        settled=settled,
        hit=hits,
        verdict=verdict,
        excess=_without_series(_excess(cursor, around, name)) if of_errors else _excess(cursor, around, name),
        first_signs=_first_signs(cursor, ledgers, usuals, verdict, start_ns, settle_ns, name) if culprits else [],
        changes=_changes(cursor, verdict, culprits, failures[0] if of_errors else None, start_ns, end_ns, name),
        radius=radius(counts, of_hit[0], of_hit[1], of_hit[2]) if of_hit else Radius("no request was affected", []),
        common=shares(compared),
        propagation=[] if of_errors else _propagation(cursor, troubles, settle_ns, names),
        without=_without(cursor, culprits, blamed_entities, first, around),
        blind=list(verdict.blind) if verdict and not of_errors else [],
        examples=list(verdict.examples or ()) if verdict else [],
        try_=_advice_on_errors(failures[0]) if of_errors else _advice(verdict, culprits),
        failures=failures,
        edges=edges,
    )


def _edges(cursor: duckdb.DuckDBPyConnection, incident: str, around: _Around) -> list[EdgeChange]:
    """What changed between services, against the time before in which there was no other incident."""
    since_ns = around.start_ns
    others = cursor.execute(
        "SELECT start_ns, coalesce(end_ns, $since_ns) + $settles_ns FROM incident"
        " WHERE incident <> $incident AND merged_into IS NULL AND start_ns < $since_ns"
        " AND coalesce(end_ns, $since_ns) > $since_ns - $before_ns ORDER BY start_ns",
        {
            "incident": incident,
            "since_ns": since_ns,
            "before_ns": _EDGES_BEFORE_NS,
            "settles_ns": _EDGES_SETTLE_NS,
        },
    ).fetchall()
    before = calm(since_ns - _EDGES_BEFORE_NS, since_ns, others)
    return read_edges(cursor, (since_ns, min(around.end_ns, since_ns + _EDGES_NS)), before)[:_EDGES]


def calm(from_ns: int, to_ns: int, others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches of a window in which nothing else went on; ``others`` in order of start."""
    found = []
    for begin_ns, end_ns in others:
        if from_ns < min(begin_ns, to_ns):
            found.append((from_ns, min(begin_ns, to_ns)))
        from_ns = max(from_ns, end_ns)
    return [*found, (from_ns, to_ns)] if from_ns < to_ns else found


def _as_named(verdict: Verdict | None, name: Naming) -> Naming:
    """The names that the verdict gives (``web (8 workers)``): an entity has one name on a screen."""
    known = {(part.entity.type, part.entity.id): part.entity for part in (verdict.parts if verdict else ())}
    return lambda kind, identity: known.get((kind, identity)) or name(kind, identity)


@dataclass(frozen=True, slots=True)
class _Around:
    """The time of an incident, and the steps that its series have."""

    start_ns: int
    end_ns: int

    @property
    def step_ns(self) -> int:
        steps = (self.end_ns - self.start_ns + 2 * AROUND_NS) // STEP_NS
        return STEP_NS * max(1, -(-steps // STEPS))

    @property
    def from_ns(self) -> int:
        return (self.start_ns - AROUND_NS) // self.step_ns * self.step_ns

    @property
    def to_ns(self) -> int:
        return self.end_ns + AROUND_NS


def _summary(
    hits: Sequence[Hit],
    culprits: Sequence[Blamed],
    entities: Sequence[Entity],
    first: tuple[str, str] | None,
    failures: Sequence[Failure],
    edges: Sequence[EdgeChange] = (),
    called: str | None = None,
    *,
    of_errors: bool,
    is_open: bool,
    conclusive: bool,
) -> str:
    """``web GET /cart and 2 more operations were slow: container stock-1 held back by … (83 % of the excess)``.

    Of errors ``web GET /cart fails: KeyError: 'cart' (HTTP 500) in stock (48 of 96 requests)``. Where only
    calls show it ``web GET /cart: calls to stock are late: …``. What is not conclusive is *perhaps* so.
    """
    service, operation = first or ((hits[0].service, hits[0].operation) if hits else ("", ""))
    several = len(hits) > 1
    more = f" and {len(hits) - 1} more operation{'s' if len(hits) > 2 else ''}" if several else ""
    if of_errors or (any("error" in hit.signs for hit in hits) and not any(hit.signs != ["error"] for hit in hits)):
        how = ("fail" if several else "fails") if is_open else "failed"
    else:
        how = ("are slow" if several else "is slow") if is_open else ("were slow" if several else "was slow")
    begin = f"{service} {operation}{more} {how}"
    signs = {sign for hit in hits for sign in hit.signs}
    if called is not None and OF_CALLS.issuperset(signs):
        late = ("are late" if is_open else "were late") if LATE_CALLS in signs else ("fail" if is_open else "failed")
        begin = f"{service} {operation}{more}: calls to {called} {late}"
    counted = next((hit for hit in hits if (hit.service, hit.operation) == first), None)
    if of_errors and counted is not None:
        return f"{begin}: {failures[0].because} ({counted.errors} of {counted.requests} requests failed)"
    failed = f"; {counted.errors} failed: {failures[0].because}" if failures and counted is not None else ""
    if not culprits:
        return f"{begin}; no single cause stands out{_at(edges)}{failed}"
    title = by_name(culprits[0].cause).title
    share = f"{culprits[0].share:.0%}".replace("%", " %")
    perhaps = "" if conclusive else "perhaps "
    return f"{begin}: {perhaps}{_in_words(entities[0])} {title} ({share} of the excess){failed}"


def _late_callee(cursor: duckdb.DuckDBPyConnection) -> str | None:
    """Whom the calls were made to that were late, or failed, in these troubles: of several the first."""
    row = first_row(
        cursor.execute(
            "SELECT one.service FROM ("
            "SELECT unnest(stretches) AS one FROM trouble SEMI JOIN asked_trouble USING (trouble))"
            " WHERE one.kind IN ('late_calls', 'failed_calls') ORDER BY one.from_ns, one.kind DESC, one.service LIMIT 1"
        )
    )
    return None if row is None else str(row[0])


def _at(edges: Sequence[EdgeChange]) -> str:
    """``, but time passes at stock: calls of web to stock …``: the first edge whose side is known."""
    edge = next((one for one in edges if one.side is not None), None)
    if edge is None:
        return ""
    where = {"caller": f"at {edge.caller}", "callee": f"at {edge.callee}"}.get(
        edge.side or "", f"on the way from {edge.caller} to {edge.callee}"
    )
    return f", {'' if edge.sure else 'perhaps '}{where}: {edge.because}"


def _without_series(excess: Excess | None) -> Excess | None:
    """When there were requests, and no cause of time beside them."""
    return replace(excess, series=[]) if excess else None


def _errors(hits: Sequence[Hit], operation: tuple[str, str]) -> int:
    return next((hit.errors for hit in hits if (hit.service, hit.operation) == operation), 0)


def _advice_on_errors(failure: Failure) -> list[str]:
    """What to look at."""
    if failure.dependency:
        return [
            f"Look at {failure.entity.name} at that time: whether it runs, what its own log says, and whether"
            f" {failure.service} still asks it in the right way."
        ]
    return [f"Look at the stack trace of one of these requests, and at what changed in {failure.service}."]


def _advice(verdict: Verdict | None, culprits: Sequence[Blamed]) -> list[str]:
    """What to try against each culprit: what their parts say, which depends on the kind of dependency, too."""
    tries = {(part.cause, part.entity.id): part.try_ for part in reversed(verdict.parts if verdict else [])}
    return list(dict.fromkeys(tries[one.cause, one.entity_id] for one in culprits))


def _in_words(entity: Entity) -> str:
    """``container stock-1``; by its name alone where that says what it is, as ``redis at cache:6379`` does."""
    kind = {"service": "dependency ", "process": ""}.get(entity.type, f"{entity.type} ")
    if entity.type == "service" and entity.name != entity.id:
        kind = ""
    return f"{kind}{entity.name}"


def _hits(cursor: duckdb.DuckDBPyConnection) -> list[Hit]:
    run(cursor, "incidents/hits.sql")
    return [
        Hit(
            service=service,
            operation=operation,
            start=rfc3339(start_ns),
            end=None if end_ns is None else rfc3339(end_ns),
            signs=list(signs),
            requests=requests,
            affected=affected,
            errors=errors,
            base_ns=base_ns,
            p50_ns=p50_ns,
            p95_ns=p95_ns,
            usual_p50_ns=usual_p50_ns,
            usual_p95_ns=usual_p95_ns,
        )
        for (
            service,
            operation,
            start_ns,
            end_ns,
            signs,
            base_ns,
            requests,
            affected,
            errors,
            p50_ns,
            p95_ns,
            usual_p50_ns,
            usual_p95_ns,
        ) in cursor.execute(
            "SELECT service, operation, start_ns, end_ns, signs, base_ns, requests, affected, errors, p50_ns, p95_ns,"
            " usual_p50_ns, usual_p95_ns FROM hit ORDER BY affected DESC, service, operation"
        ).fetchall()
    ]


# ---- over time, and without a culprit


def _front(
    cursor: duckdb.DuckDBPyConnection, around: _Around, ledgers: Sequence[Ledger], usuals: Sequence[Usual | None]
) -> None:
    """Leave the outermost requests, their parts and their usual parts in tables."""
    run(cursor, "incidents/front.sql", {"from_ns": around.from_ns, "to_ns": around.to_ns})
    known: dict[tuple[str, str, str, str, str], int] = {}
    for ledger, usual in zip(ledgers, usuals, strict=True):
        for part in usual.parts if usual else ():
            known[(ledger.service, ledger.operation, *part.key)] = part.lost_ns
    columns = ("service", "operation", "cause", "part_service", "address")
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE front_usual AS SELECT "
        + ", ".join(f"unnest(${column}::VARCHAR[]) AS {column}" for column in columns)
        + ", unnest($usual::BIGINT[]) AS usual_ns",
        {column: [key[place] for key in known] for place, column in enumerate(columns)}
        | {"usual": list(known.values())},
    ).fetchall()


def _excess(cursor: duckdb.DuckDBPyConnection, around: _Around, name: Naming) -> Excess | None:
    """The largest series; what is left open is not among them: it is in the verdict."""
    rows = cursor.execute(
        text("incidents/excess.sql"), {"from_ns": around.from_ns, "step_ns": around.step_ns}
    ).fetchall()
    counts = dict(
        cursor.execute(
            "SELECT (start_ns - $from_ns) // $step_ns AS step_no, count(*) FROM front GROUP BY ALL",
            {"from_ns": around.from_ns, "step_ns": around.step_ns},
        ).fetchall()
    )
    if not counts:
        return None
    steps = max(counts) + 1
    series: dict[tuple[str, str, str, str], dict[int, int]] = defaultdict(dict)
    for step_no, cause, service, entity_type, entity_id, excess_ns in rows:
        series[cause, service, entity_type, entity_id][step_no] = excess_ns
    largest = sorted(series, key=lambda key: (-sum(series[key].values()), key))[:_SERIES]
    return Excess(
        start=rfc3339(around.from_ns),
        step_ns=around.step_ns,
        requests=[counts.get(step, 0) for step in range(steps)],
        series=[
            ExcessSeries(
                cause=cause,
                layer=by_name(cause).layer,
                service=service,
                entity=name(entity_type, entity_id),
                excess_ns=[
                    series[cause, service, entity_type, entity_id].get(step, 0) if step in counts else None
                    for step in range(steps)
                ],
            )
            for cause, service, entity_type, entity_id in largest
        ],
    )


def _without(
    cursor: duckdb.DuckDBPyConnection,
    culprits: Sequence[Blamed],
    entities: Sequence[Entity],
    first: tuple[str, str] | None,
    around: _Around,
) -> list[Without]:
    if first is None:
        return []
    timed = []
    for culprit, entity in list(zip(culprits, entities, strict=True))[:_CULPRITS]:
        row = first_row(
            cursor.execute(
                text("incidents/without.sql"),
                {
                    "service": first[0],
                    "operation": first[1],
                    "cause": culprit.cause,
                    "entity_type": culprit.entity_type,
                    "entity_id": culprit.entity_id,
                    "from_ns": around.start_ns,
                    "to_ns": around.end_ns,
                },
            )
        )
        if row is not None and row[0] is not None:
            others = by_name(culprit.cause).takes_over
            p50_ns, p95_ns, p50_without_ns, p95_without_ns, low_ns, high_ns = row
            timed.append(
                Without(
                    cause=culprit.cause,
                    entity=entity,
                    p50_ns=p50_ns,
                    p95_ns=p95_ns,
                    p50_without_ns=p50_without_ns,
                    p95_without_ns=p95_without_ns,
                    p95_without_low_ns=low_ns,
                    p95_without_high_ns=high_ns,
                    at_least=bool(others),
                    takes_over=list(others),
                )
            )
    return timed


# ---- who was first


def _first_signs(
    cursor: duckdb.DuckDBPyConnection,
    ledgers: Sequence[Ledger],
    usuals: Sequence[Usual | None],
    verdict: Verdict | None,
    start_ns: int,
    settle_ns: int,
    name: Naming,
) -> list[FirstSign]:
    """For each layer that has a say in the verdict, the first affected request in which it cost more than usual."""
    if verdict is None:
        return []
    layers: dict[str, int] = defaultdict(int)
    weights: dict[tuple[str, str], int] = defaultdict(int)  # by cause and service
    for part in verdict.parts:
        layers[part.layer] += max(0, _weight(part))
        weights[part.cause, part.service] += max(0, _weight(part))
    least_ns = _LAYER_SHARE * sum(layers.values())
    # Not what another fault in the same layer cost, whose last requests this one's first were.
    telling = {
        (cause, service)
        for (cause, service), weight in weights.items()
        if layers[by_name(cause).layer] >= least_ns and weight >= _LAYER_SHARE * layers[by_name(cause).layer] > 0
    }
    earliest = select_requests(
        cursor,
        "(trace_id, span_id) IN (SELECT trace_id, span_id FROM concerned WHERE affected"
        " ORDER BY start_ns, span_id LIMIT $most) AND start_ns >= $start_ns ORDER BY start_ns, span_id",
        {"most": _EARLIEST, "start_ns": start_ns},
    )
    early_ledgers, early_usuals = read_ledgers(cursor, earliest, settle_ns)
    both = [*zip(early_ledgers, early_usuals, strict=True), *zip(ledgers, usuals, strict=True)]
    both.sort(key=lambda item: (item[0].start_ns, item[0].span_id))
    signs: dict[str, FirstSign] = {}
    for ledger, usual in both:
        for cause, service, entity_type, entity_id, excess_ns in _excesses(ledger, usual):
            layer = by_name(cause).layer
            if (
                (cause, service) in telling
                and layer not in signs
                and excess_ns >= max(_SIGN_NS, _SIGN_SHARE * (ledger.duration_ns - (usual.usual_ns if usual else 0)))
            ):
                signs[layer] = FirstSign(
                    layer, rfc3339(ledger.start_ns), ledger.start_ns - start_ns, cause, name(entity_type, entity_id)
                )
    return sorted(signs.values(), key=lambda sign: sign.offset_ns)  # stable: of one request, what cost most first


def _weight(part: Part) -> int:
    return part.lost_ns if part.excess_ns is None else part.excess_ns


def _excesses(ledger: Ledger, usual: Usual | None) -> Iterable[tuple[str, str, str, str, int]]:
    """(cause, service, entity type, entity id, excess) of the parts of one request, the largest first."""
    usually = {part.key: part.lost_ns for part in usual.parts} if usual else {}
    excesses = [
        (part.cause, part.service, part.entity_type, part.entity_id, part.lost_ns - usually.get(part.key, 0))
        for part in map(of_service, ledger.parts)
    ]
    return sorted(excesses, key=lambda item: (-item[4], item[0]))


def _propagation(
    cursor: duckdb.DuckDBPyConnection, troubles: Sequence[str], settle_ns: int, names: Names
) -> list[Explained]:
    """For each operation that was hit: in which services its excess was spent."""
    explained: dict[tuple[str, str], int] = defaultdict(int)
    whole: dict[str, int] = defaultdict(int)
    for trouble in troubles[:8]:
        concern(cursor, [trouble])
        ledgers, usuals = read_ledgers(cursor, choose(cursor, FEW), settle_ns)
        verdict = judge_window(ledgers, usuals, names)
        for part in verdict.parts if verdict else ():
            if verdict and _weight(part) > 0:
                explained[verdict.service, part.service] += _weight(part)
                whole[verdict.service] += _weight(part)
    return [
        Explained(service, by, excess_ns, round(excess_ns / whole[service], 4))
        for (service, by), excess_ns in sorted(explained.items(), key=lambda item: (-item[1], item[0]))
        if excess_ns >= _LAYER_SHARE * whole[service]
    ]


# ---- what changed, and what they have in common


def _changes(
    cursor: duckdb.DuckDBPyConnection,
    verdict: Verdict | None,
    culprits: Sequence[Blamed],
    failure: Failure | None,
    start_ns: int,
    end_ns: int | None,
    name: Naming,
) -> list[Change]:
    from_ns, to_ns = start_ns - BEFORE_NS, start_ns + AFTER_NS
    with within(cursor, from_ns - READINGS_AROUND_NS, to_ns + 1, POINT):
        run(cursor, "incidents/changes.sql", {"from_ns": from_ns, "to_ns": to_ns})
    happened = [
        Happened(*row)
        for row in cursor.execute("SELECT at_ns, kind, container_id, service, what FROM change ORDER BY ALL").fetchall()
    ]
    if not happened:
        return []
    services: dict[str, set[str]] = defaultdict(set)
    for service, container_id in cursor.execute(
        "SELECT DISTINCT service, container_id FROM request"
        " WHERE trace_id IN (SELECT trace_id FROM concerned WHERE affected)"
        " AND start_ns BETWEEN $from_ns AND coalesce($to_ns, start_ns)",
        {"from_ns": start_ns - AFTER_NS, "to_ns": end_ns},
    ).fetchall():
        services[service] |= {container_id} if container_id else set()
    parts = verdict.parts if verdict else []
    for part in parts:
        if part.entity.type == "container" and part.lost_ns:
            services[part.service].add(part.entity.id)
    neighbours = neighbours_of(
        [(part.cause, [(by.entity.id, by.share) for by in part.by]) for part in parts],
        culprits[0].cause if culprits else None,
    )
    called = [part.entity.id for part in parts if part.entity.type == "service"]
    if failure is not None and failure.dependency:
        called.append(failure.entity.id)
    path = Path({service: frozenset(found) for service, found in services.items()}, neighbours, _called(cursor, called))
    return judge_changes(happened, path, culprits[0] if culprits else None, start_ns, name, failure)


def _called(cursor: duckdb.DuckDBPyConnection, addresses: Sequence[str]) -> dict[str, str]:
    """Which containers answer to these addresses, ``prices:8080``: by name, alias or IP address."""
    hosts = {address.rpartition(":")[0].strip("[]") or address: address for address in addresses}
    found = {}
    for container_id, name, attributes in cursor.execute(
        "SELECT container_id, name, attributes FROM container WHERE described"
    ).fetchall():
        known: dict[str, Any] = attributes or {}
        alike = f"{known.get('layerline.container.aliases', '')}{known.get('layerline.container.addresses', '')}"
        for host, address in hosts.items():
            if host == name or f'"{host}"' in alike:
                found[container_id] = address
    return found


def _counts(
    cursor: duckdb.DuckDBPyConnection,
    hits: Sequence[Hit],
    culprits: Sequence[Blamed],
    first: tuple[str, str] | None,
    before_ns: int,
) -> tuple[list[Count], tuple[str, int, int] | None]:
    """Counts of attribute values in the operation of the first culprit's service, else in the outermost one.

    And that operation, how many requests it had and how many were affected.
    """
    affected = [hit for hit in hits if hit.affected]
    if not affected or first is None:
        return [], None
    service = culprits[0].service if culprits else first[0]
    # `hits` begins with those that were affected most often: of equals that one.
    hit = max(affected, key=lambda hit: (hit.service == service, (hit.service, hit.operation) == first, hit.affected))
    ((first_ns, last_ns),) = cursor.execute("SELECT min(start_ns), max(start_ns) FROM concerned").fetchall()
    with within(cursor, (first_ns or 0) - before_ns, (last_ns or 0) + 1, SPAN):
        counts = cursor.execute(
            text("incidents/shares.sql"),
            {"service": hit.service, "operation": hit.operation, "before_ns": before_ns},
        ).fetchall()
    return [Count(*row) for row in counts], (f"{hit.service} {hit.operation}", hit.requests, hit.affected)
