"""Coverage: what of a window was seen, what was not, why, and the one thing to enable.

"Not measured" is told apart from "measured: nothing" here too: a share of nothing is null, and a layer without readings
says so instead of showing zeros.
"""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import duckdb

from layerline.version import UNKNOWN, own_version
from layerline_correlator.entity import Entity, Naming
from layerline_correlator.facts import join
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.store.caps import SENDERS, SERIES, TAG_VALUES
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, SPAN, coarsest_ns, narrow
from layerline_correlator.store.sizes import StoreSize
from layerline_correlator.store.stale import KINDS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import DAY_PART_NS, VIEWS, cover, turns
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.judge import Unseen as UnseenCause
from layerline_correlator.verdict.judge import on_machines, to_enable
from layerline_correlator.verdict.ledgers import other_languages, readers, unseen

#: Series of one metric from one sender, resources or operations of one service, beyond which they are named.
MOST_SERIES = 1_000
#: Reasons shown of each kind, and unseen containers named, at most.
_REASONS, _NAMED = 5, 20
#: For how long an agent may say nothing, at least, and how many of its own intervals, before it is called silent.
_SILENT_NS, _MISSED = 15 * 10**9, 3
#: By how much clocks may disagree: less is evened out where calls show it.
_CLOCK_NS = 100_000_000
_WRAPPER, _AGENT = "start the services with `layerline run -- CMD`", "run `layerline agent` on the machines"
#: What to do about what exceeds each cap.
_LESS = {
    SERIES: "take the attribute that makes them so many out of the metric (a View of the SDK, a processor of the"
    " Collector), or raise LAYERLINE_SERIES on the server",
    SENDERS: "take ids that change with every request out of the resource, or raise LAYERLINE_SERIES on the server",
    TAG_VALUES: "take the attribute out of the resource, or raise LAYERLINE_TAG_VALUES on the server",
}
_MEASURES_ALL = re.compile(r"(?:ParentBased\{root:)?AlwaysOnSampler\b")


@dataclass(frozen=True, slots=True)
class Counted:
    """How many spans had something in common: a reason, or a method with its confidence (the mean)."""

    what: str
    spans: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Spans that could be tied, of those that had something to be tied to."""

    spans: int
    of: int
    share: float | None
    """Null where ``of`` is 0."""
    methods: list[Counted]
    missing: list[Counted]
    """Why the others could not, most spans first."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Whether spans were left out at the source; ``sampled`` is null where nothing tells."""

    sampled: bool | None
    kept_ratio: float | None
    """The smallest share that was kept, where it is told."""
    sign: str


@dataclass(frozen=True, slots=True)
class Uninstrumented:
    """A library that a service has installed and that leaves no spans: requests, calls or jobs in it are not seen."""

    library: str
    package: str | None
    """What instruments it, as pip takes it; null where there is none, or it is installed and could not be applied."""
    reason: str
    enable: str


@dataclass(frozen=True, slots=True)
class ServiceCoverage:
    """One service in the window."""

    service: str
    requests: int
    orphans: int
    """Requests whose caller's span was never received."""
    refused: int
    """Requests whose parts did not add up: kept without any, all of their time unexplained."""
    left_out: int
    """Ordinary requests that were not drawn for a ledger, because more arrived than the budget (``LAYERLINE_BUDGET``)
    allows: the ledgers of others stand for them, and whoever asks for one has it worked out."""
    unread: int
    """Requests that could not be worked out with what was measured: judged by their spans, or kept without parts."""
    spans: int
    on_machine: int
    """Spans that were sent from outside of any container."""
    container: Joined
    host: Joined
    account: Joined
    sampling: Sampling
    uninstrumented: list[Uninstrumented]
    """What its processes have installed and nothing instruments, as our wrapper reports."""


@dataclass(frozen=True, slots=True)
class LayerCoverage:
    """The readings of one layer. ``interval_ns`` is the median over its entities of their median step."""

    layer: str
    entities: int
    readings: int
    interval_ns: int | None
    gaps: int
    """Steps longer than three times their entity's median."""
    longest_gap_ns: int | None
    longest_gap_at: Entity | None
    reason: str | None
    enable: str | None


@dataclass(frozen=True, slots=True)
class BlindCoverage:
    """A cause that could not be seen in some of the window's requests."""

    cause: str
    layer: str
    requests: int
    share: float
    services: list[str]
    reason: str
    enable: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A container that lived and ended without one reading."""

    id: str
    name: str
    started: str | None
    ended: str


@dataclass(frozen=True, slots=True)
class Lives:
    """Containers that ended in the window, by their engine's events, and those of them that nobody read."""

    ended: int
    unseen: int
    ended_unknown: int
    """More that ended while the engine did not answer: nobody knows when, nor with which exit code."""
    named: list[Unseen]
    reason: str | None
    """Why others may be missing; null where all of them are known."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Readings that an agent had made and that were lost on the way, as it tells itself."""

    host: str
    points: int
    from_: str
    to: str
    """When the last of them was read."""
    reason: str


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The clock of a machine was set: what was measured there before and after does not lie on one timeline."""

    host: str
    at: str
    """By the clock as it was after that."""
    step_ns: int
    """Negative: it was set back."""


@dataclass(frozen=True, slots=True)
class AgentCoverage:
    """An agent that reported in the window."""

    host: str
    version: str | None
    """Null for one that does not say it."""
    last: str
    """What it read last of what arrived."""
    silent_ns: int | None
    """For how long nothing came of it, at the window's end; null while it reports."""
    clock_ahead_ns: int | None
    """How far its machine's clock is ahead of this server's (negative: behind); null where it was not measured."""
    clock_uncertain_ns: int | None
    """How far that may be wrong."""
    clock_wrong: bool
    """Whether the clocks certainly disagree by more than is harmless: figures of all machines share one timeline."""


@dataclass(frozen=True, slots=True)
class VersionSkew:
    """A sender whose version of Layerline is another than this server's."""

    sender: str  # "agent" | "wrapper"
    name: str
    """The agent's machine, or the service."""
    version: str
    supported: bool
    """Whether it is at most one minor version away."""


@dataclass(frozen=True, slots=True)
class Explosion:
    """A metric of one sender, or a service, that fell apart into very many, and the attribute that did it."""

    what: str  # "series" | "resources" | "operations"
    name: str
    number: int
    attribute: str | None
    distinct_values: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store takes, whatever the window; measured every ten minutes."""

    bytes: int
    sealed_bytes: int
    """Of them in sealed hours."""
    span_bytes: float | None
    """Bytes a span, its share of the ledgers included; null where too little is stored to say."""
    container_day_bytes: float | None
    """Bytes of readings for a container that is read for a day, its machine's included; null as above."""
    oldest: str | None


@dataclass(frozen=True, slots=True)
class Beyond:
    """What was sent and is not stored, because it was beyond a cap."""

    cap: str  # "series" | "senders" | "tag values"
    name: str
    """The metric, the service, the tag; empty where there were too many to name."""
    sender: str
    items: int
    """Points of series; spans, points, log records and events of senders; resources without the tag."""
    from_: str
    to: str
    enable: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was seen in a window, and what was not. Field for field the JSON of ``GET /api/v1/coverage``."""

    from_: str
    to: str
    requests: int
    services: list[ServiceCoverage]
    layers: list[LayerCoverage]
    blind: list[BlindCoverage]
    containers: Lives
    dropped: list[Dropped]
    """Readings that agents tell to have lost, of a time that overlaps the window."""
    clock_steps: list[ClockStep]
    """Clocks that were set in the window, as agents say."""
    cardinality: list[Explosion]
    exceeded: list[Beyond]
    """What was beyond a cap in the window, by this server's clock; most items first."""
    reason: str | None
    """Why it is empty; null where something was received."""
    agents: list[AgentCoverage] = field(default_factory=list)
    """Those that fell silent first."""
    version: str = UNKNOWN
    """Of this server."""
    version_skew: list[VersionSkew] = field(default_factory=list)
    stored: Stored | None = None
    """What the whole store takes; null until it was first measured, a minute after the start."""


def stored(size: StoreSize | None) -> Stored | None:
    """What coverage says of the store's size."""
    if size is None:
        return None
    sealed_bytes = sum(one.bytes for one in size.sealed)
    return Stored(size.bytes, sealed_bytes, size.span_bytes, size.container_day_bytes, size.oldest)


FILES = ("questions/coverage_senders.sql", *join.FILES, "questions/coverage.sql")


class _Row(NamedTuple):
    service: str
    in_known_container: bool
    on_machine: bool
    method: str | None
    confidence: float
    reason: str | None
    host: str | None
    host_method: str | None
    on_known_host: bool | None
    account: str
    threshold: str | None
    sampler: str | None
    uninstrumented: str | None
    not_applied: str | None
    spans: int


def read_coverage(
    cursor: duckdb.DuckDBPyConnection,
    name: Naming,
    from_ns: int,
    to_ns: int,
    service: str | None = None,
) -> Coverage:
    """Coverage of what began in the window; with ``service``, of that service's spans, requests and blind causes."""
    narrow(cursor, from_ns, to_ns, POINT, SPAN)
    window = {
        "from_ns": from_ns,
        "to_ns": to_ns,
        "until_ns": min(to_ns, time.time_ns()),
        "coarse_ns": coarsest_ns(cursor, from_ns, to_ns),
    }
    apart, quarters = turns(cursor, from_ns, to_ns), to_ns - from_ns > DAY_PART_NS
    for kind in KINDS:
        cover(cursor, kind, from_ns, to_ns, apart=apart, quarters=quarters)
    graph(FILES, VIEWS).run(cursor, {**window, "most_series": MOST_SERIES, "service": service})

    def asked(found: str) -> bool:
        return service is None or found == service

    rows = [_Row(*row) for row in cursor.execute("FROM span_cover ORDER BY ALL").fetchall()]
    requests = {
        found: (number, orphans, refused, unread, left_out)
        for found, number, orphans, refused, unread, left_out in cursor.execute("FROM request_cover").fetchall()
        if asked(found)
    }
    by_service: dict[str, list[_Row]] = {found: [] for found in sorted(requests)}
    for row in rows:
        if asked(row.service):
            by_service.setdefault(row.service, []).append(row)
    services = [
        _service(found, *requests.get(found, (0, 0, 0, 0, 0)), sent) for found, sent in sorted(by_service.items())
    ]
    total = sum(one.requests for one in services)
    machines = dict.fromkeys(row.host for row in rows if asked(row.service))
    layers = _layers(cursor, name, services, machines)
    nothing = not services and not any(layer.readings for layer in layers)
    return Coverage(
        from_=rfc3339(from_ns),
        to=rfc3339(to_ns),
        requests=total,
        services=services,
        layers=layers,
        blind=_blind(cursor, name, total),
        containers=_lives(cursor),
        dropped=[
            Dropped(host or "", points, rfc3339(first), rfc3339(last), reason or "")
            for host, points, first, last, reason in cursor.execute("FROM dropped ORDER BY ALL").fetchall()
        ],
        clock_steps=[
            ClockStep(host or "", rfc3339(at_ns), step_ns)
            for host, at_ns, step_ns in cursor.execute(
                "SELECT host, time_ns, step_ns FROM hidden WHERE what = 'layerline.agent.clock_stepped'"
                " AND step_ns IS NOT NULL ORDER BY time_ns, host LIMIT $most",
                {"most": _NAMED},
            ).fetchall()
        ],
        cardinality=[Explosion(*row) for row in cursor.execute("FROM explosion ORDER BY number DESC, name").fetchall()],
        exceeded=_exceeded(cursor, from_ns, to_ns),
        agents=_agents(cursor, window["until_ns"]),
        version=own_version() or UNKNOWN,
        version_skew=_skew(cursor, own_version() or UNKNOWN),
        reason=_why_empty(service) if nothing or (service is not None and not services) else None,
    )


def _exceeded(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> list[Beyond]:
    rows = cursor.execute(
        "SELECT kind, coalesce(name, ''), coalesce(sender, ''), sum(items)::BIGINT, min(first_ns), max(last_ns)"
        " FROM exceeded WHERE last_ns >= $from_ns AND first_ns < $to_ns"
        " GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3 LIMIT $most",
        {"from_ns": from_ns, "to_ns": to_ns, "most": _NAMED},
    ).fetchall()
    return [
        Beyond(kind, name, sender, items, rfc3339(first), rfc3339(last), _LESS[kind])
        for kind, name, sender, items, first, last in rows
    ]


def _agents(cursor: duckdb.DuckDBPyConnection, until_ns: int) -> list[AgentCoverage]:
    rows = cursor.execute(
        "SELECT name, version, last_ns, every_ns, ahead_ns, uncertain_ns FROM agent_cover ORDER BY last_ns, name"
    ).fetchall()
    found = []
    for name, version, last_ns, every_ns, ahead_ns, uncertain_ns in rows:
        silent_ns = until_ns - last_ns
        found.append(
            AgentCoverage(
                host=name,
                version=version,
                last=rfc3339(last_ns),
                silent_ns=silent_ns if silent_ns > max(_SILENT_NS, _MISSED * (every_ns or 0)) else None,
                clock_ahead_ns=ahead_ns,
                clock_uncertain_ns=uncertain_ns,
                clock_wrong=ahead_ns is not None and abs(ahead_ns) - (uncertain_ns or 0) > _CLOCK_NS,
            )
        )
    return found


def _skew(cursor: duckdb.DuckDBPyConnection, own: str) -> list[VersionSkew]:
    rows = cursor.execute(
        "SELECT 'agent' AS sender, name, version FROM agent_cover WHERE version IS NOT NULL"
        " UNION ALL SELECT 'wrapper', name, version FROM wrapper_cover ORDER BY ALL"
    ).fetchall()
    return [VersionSkew(sender, name, version, near(version, own)) for sender, name, version in rows if version != own]


def near(version: str, own: str) -> bool:
    """Whether two versions work together: the same major one, and at most one minor one apart."""
    found = [re.match(r"(\d+)\.(\d+)", each) for each in (version, own)]
    if found[0] is None or found[1] is None:
        return False
    (major, minor), (own_major, own_minor) = (tuple(map(int, match.groups())) for match in found if match)
    return major == own_major and abs(minor - own_minor) <= 1


def _why_empty(service: str | None) -> str:
    if service is not None:
        return f"no span of service {service!r} was received in this window"
    return "neither spans nor readings were received in this window"


def _service(
    service: str, requests: int, orphans: int, refused: int, unread: int, left_out: int, rows: list[_Row]
) -> ServiceCoverage:
    spans = sum(row.spans for row in rows)
    inside = [row for row in rows if not row.on_machine]
    return ServiceCoverage(
        service=service,
        requests=requests,
        orphans=orphans,
        refused=refused,
        left_out=left_out,
        unread=unread,
        spans=spans,
        on_machine=spans - sum(row.spans for row in inside),
        container=_joined(
            [(row, row.method if row.in_known_container else None, row.confidence, row.reason or "") for row in inside]
        ),
        host=_joined([(row, row.host_method if row.on_known_host else None, None, _hostless(row)) for row in rows]),
        account=_joined([(row, "measured" if row.account == "measured" else None, None, row.account) for row in rows]),
        sampling=_sampling(rows),
        uninstrumented=list(_uninstrumented(rows)),
    )


def _uninstrumented(rows: list[_Row]) -> Iterator[Uninstrumented]:
    """What our wrapper says of its process, each once: ``library package, …`` and ``name: reason; …``.

    A library without a package is one that OpenTelemetry has no instrumentation for.
    """
    told = {pair for row in rows for pair in (row.uninstrumented or "").split(", ") if pair}
    for pair in sorted(told)[:_NAMED]:
        library, _, package = pair.partition(" ")
        if not package:
            why = "installed, and OpenTelemetry has no instrumentation for it"
            yield Uninstrumented(library, None, why, "`layerline docs apps` says what the app has to add")
            continue
        enable = f"pip install {shlex.quote(package)}, or start it with `layerline run --install -- CMD`"
        yield Uninstrumented(library, package, "installed, and nothing instruments it", enable)
    failed = {pair for row in rows for pair in (row.not_applied or "").split("; ") if pair}
    for pair in sorted(failed)[:_NAMED]:
        name, _, why = pair.partition(": ")
        yield Uninstrumented(
            name,
            None,
            f"its instrumentation could not be applied: {why}",
            "install versions that go together; the app says more on stderr as it starts",
        )


def _hostless(row: _Row) -> str:
    if row.host is None:
        return "its resource has nothing that tells the machine (layerline.boot_id, host.id, host.name, k8s.node.name)"
    return f"nobody describes machine {row.host[:64]}"


def _joined(found: Iterable[tuple[_Row, str | None, float | None, str]]) -> Joined:
    methods: Counter[str] = Counter()
    sums: dict[str, float] = defaultdict(float)
    missing: Counter[str] = Counter()
    for row, method, confidence, why in found:
        if method is None:
            missing[why] += row.spans
        else:
            methods[method] += row.spans
            sums[method] += (1.0 if confidence is None else confidence) * row.spans
    spans, of = methods.total(), methods.total() + missing.total()
    reasons = [Counted(why, number) for why, number in missing.most_common(_REASONS)]
    if rest := missing.total() - sum(one.spans for one in reasons):
        reasons.append(Counted(f"{len(missing) - _REASONS} other reasons", rest))
    return Joined(
        spans=spans,
        of=of,
        share=round(spans / of, 4) if of else None,
        methods=[Counted(method, number, round(sums[method] / number, 3)) for method, number in methods.most_common()],
        missing=reasons,
    )


def _sampling(rows: list[_Row]) -> Sampling:
    """Signs, best first: the threshold in ``tracestate`` (``ot=th:``), then the sampler that our wrapper names."""
    kept = [1 - int(row.threshold.ljust(14, "0"), 16) / 2**56 for row in rows if row.threshold]
    if kept:
        return Sampling(min(kept) < 1, round(min(kept), 6), "tracestate ot=th")
    samplers = sorted({row.sampler for row in rows if row.sampler})
    some = [sampler for sampler in samplers if not _MEASURES_ALL.match(sampler)]
    if some:
        return Sampling(True, None, f"sampler {', '.join(some)}")
    if samplers and all(row.sampler for row in rows):
        return Sampling(False, None, f"sampler {', '.join(samplers)}")
    return Sampling(None, None, "nothing tells: spans that were left out at the source leave no sign in OTLP")


def _layers(
    cursor: duckdb.DuckDBPyConnection, name: Naming, services: list[ServiceCoverage], machines: Iterable[str | None]
) -> list[LayerCoverage]:
    accounts = sum(one.account.spans for one in services)
    layers = [
        LayerCoverage(
            "app",
            sum(one.account.spans > 0 for one in services),
            accounts,
            None,
            0,
            None,
            None,
            *(None, None) if accounts else ("no span says what its thread did", _WRAPPER),
        )
    ]
    enable = on_machines(_AGENT, machines, name)
    for layer in ("container", "network", "host"):
        row = first_row(
            cursor.execute(
                "SELECT count(*), coalesce(sum(points), 0)::BIGINT, median(median_ns)::BIGINT,"
                " coalesce(sum(gaps), 0)::BIGINT, max(longest_ns),"
                " first(entity_type ORDER BY longest_ns DESC NULLS LAST, entity_id),"
                " first(entity_id ORDER BY longest_ns DESC NULLS LAST, entity_id) FROM beat WHERE layer = $layer",
                {"layer": layer},
            )
        )
        entities, readings, interval_ns, gaps, longest_ns, kind, identity = row or (0, 0, None, 0, None, None, None)
        layers.append(
            LayerCoverage(
                layer,
                entities,
                readings,
                interval_ns,
                gaps,
                longest_ns,
                name(kind, identity) if longest_ns is not None else None,
                *(None, None) if readings else ("no readings were received in this window", enable),
            )
        )
    return layers


def _blind(cursor: duckdb.DuckDBPyConnection, name: Naming, total: int) -> list[BlindCoverage]:
    requests: dict[str, int] = {}
    found: dict[str, list[UnseenCause]] = defaultdict(list)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    languages, read_by = other_languages(cursor), readers(cursor)
    for cause, service, facts, why, number, foreign, host, agent_reads in cursor.execute(
        "FROM blind_cover ORDER BY ALL"
    ).fetchall():
        if service is None:
            requests[cause] = number
        else:
            sources = read_by.get(host, read_by[None])
            told = facts, why, bool(foreign), host, bool(agent_reads), languages.get(service), sources
            one = unseen(cause, service, *told)
            found[cause].append(one)
            reasons[cause][one.reason] += number
    return [
        BlindCoverage(
            cause=cause,
            layer=by_name(cause).layer,
            requests=number,
            share=round(number / total, 4) if total else 0.0,
            services=sorted({one.service for one in found[cause]}),
            reason="; ".join(reason for reason, _ in reasons[cause].most_common(3)),
            enable=to_enable(cause, found[cause], name),
        )
        for cause, number in sorted(requests.items(), key=lambda item: (-item[1], by_name(item[0]).order))
    ]


def _lives(cursor: duckdb.DuckDBPyConnection) -> Lives:
    rows = cursor.execute(
        "SELECT container_id, name, started_ns, died_ns, readings FROM life ORDER BY died_ns"
    ).fetchall()
    told = first_row(cursor.execute("SELECT count(*) FROM event WHERE name LIKE 'container.%'"))
    without = [
        Unseen(identity, name or identity[:12], rfc3339(started) if started else None, rfc3339(died))
        for identity, name, started, died, readings in rows
        if not readings
    ]
    nobody = None if told and told[0] else "nobody tells of the starts and ends of containers: run `layerline agent`"
    gone = first_row(
        cursor.execute(
            "SELECT count(DISTINCT (host, container_id, first_ns)) FROM hidden WHERE what = 'container.gone'"
        )
    )
    return Lives(len(rows), len(without), gone[0] if gone else 0, without[:_NAMED], nobody or _engines_away(cursor))


def _engines_away(cursor: duckdb.DuckDBPyConnection) -> str | None:
    """Why the starts and ends of containers may be missing though somebody reports them."""
    away = cursor.execute(
        "SELECT host, min(first_ns), max(last_ns), count(*) FROM hidden"
        " WHERE what = 'layerline.agent.engine_away' GROUP BY host ORDER BY host LIMIT 3"
    ).fetchall()
    return (
        "; ".join(
            f"the container engine{f' of {host}' if host else ''} did not answer "
            + (f"{times} times " if times > 1 else "")
            + f"between {rfc3339(first)} and {rfc3339(last)}: containers that lived only then may be missing"
            for host, first, last, times in away
        )
        or None
    )
