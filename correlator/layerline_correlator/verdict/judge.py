"""From ledgers to verdicts: pure arithmetic on plain data, no clock and no database.

The verdict ranks excess: an operation that always burns 100 ms of CPU is not slow because of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from layerline_correlator.entity import NAMELESS, Entity, Naming
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.model import Blind, Culprit, Join, Neighbour, Part, Verdict
from layerline_correlator.verdict.sentences import Seen, sentence
from layerline_correlator.verdict.statement import masked

#: A culprit has at least this share of what is ranked.
CULPRIT_SHARE = 0.1
#: Neighbours named beside a part, at most, and the share of what ran that is worth a name.
NEIGHBOURS, NEIGHBOUR_SHARE = 5, 0.01
#: Machines named in what to enable, at most.
MACHINES = 3

_PID = re.compile(r" \(pid \d+\)$")

Key = tuple[str, str, str]  # cause, service, and the dependency where the entity is one


@dataclass(frozen=True, slots=True)
class Ran:
    """A neighbour and what it ran, in nanoseconds of CPU time."""

    entity_type: str
    entity_id: str
    ran_ns: int


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """One cause's share of one request."""

    cause: str
    service: str
    entity_type: str
    entity_id: str
    lost_ns: int
    low_ns: int
    high_ns: int
    inferred: bool = False
    neighbours: tuple[Ran, ...] = ()
    because: str = ""
    place: str | None = None  # "function file:line" where it was seen
    dependency: str = ""  # of a dependency: "postgresql"; "" where its callers do not say
    dependency_type: str = ""  # "database", "cache", "message broker" or "http service"
    statement: str = ""  # the statement that cost most, as it was sent
    every_ns: int | None = None  # of what is inferred: how often its entity was read
    source: str = ""  # and by whom
    in_a_pod: bool = False  # its container is one of Kubernetes

    @property
    def key(self) -> Key:
        """What it is compared by with its usual: a container that was made anew is still the same part."""
        return self.cause, self.service, self.entity_id if self.entity_type == "service" else ""


class Unseen(NamedTuple):
    """A cause that could not be seen in one request."""

    cause: str
    reason: str
    foreign: bool = False  # its container is read, but not by our agent
    service: str = ""
    host: str | None = None  # where that service ran
    agent_reads: bool = False  # our agent reads that machine
    account: bool = False  # the account of its threads is what is missing
    only_wrapper: bool = False  # what is missing is measured by the wrapper alone
    only_agent: bool = False  # or by the agent alone
    language: str | None = None  # of the service, where the wrapper cannot start it: it is not in Python
    sources: tuple[str, ...] = ()  # who reads the containers of that machine


@dataclass(frozen=True, slots=True)
class Ledger:
    """One request and where its time went; ``sum(lost_ns) + unexplained_ns == duration_ns``."""

    trace_id: str
    span_id: str
    service: str
    operation: str
    start_ns: int
    duration_ns: int
    unexplained_ns: int
    parts: tuple[LedgerPart, ...]
    blind: tuple[Unseen, ...] = ()
    join: Join = field(default_factory=lambda: Join(None, 0.0, 0))
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Usual:
    """The mean ledger that a request is compared with; its parts and ``unexplained_ns`` sum to ``usual_ns``."""

    usual_ns: int
    parts: tuple[LedgerPart, ...]

    @property
    def unexplained_ns(self) -> int:
        """What the mean ledger leaves open."""
        return self.usual_ns - sum(part.lost_ns for part in self.parts)


def is_slow(duration_ns: int, usual_ns: int | None, slow_ns: int) -> bool:
    """Longer than twice its usual and by at least 50 ms; without a usual, at least ``slow_ns``."""
    if usual_ns is None:
        return duration_ns >= slow_ns
    return duration_ns > 2 * usual_ns and duration_ns - usual_ns >= 50_000_000


def judge(
    ledgers: Sequence[Ledger],
    usuals: Sequence[Usual | None],
    name: Naming,
    *,
    window: bool = False,
    absolute: bool = False,
    received: int = 0,
    slow: int = 0,
) -> Verdict:
    """One verdict for one ledger, or (``window``) for the sum of several of one service and operation.

    ``name`` gives the entity of a type and id. Where only some ledgers of a window have a usual, the others are left
    out of the sums. Outside of containers, a window's parts are of a service and not of each of its worker processes:
    eight workers with the same trouble are one culprit. ValueError when there is no ledger.
    """
    if not ledgers:
        raise ValueError("expected at least one ledger, found none")
    together = list(zip(ledgers, usuals, strict=True))
    if window and any(usual for _, usual in together):
        together = [(ledger, usual) for ledger, usual in together if usual]
    chosen = [ledger for ledger, _ in together]
    known = [usual for _, usual in together if usual]
    has_usual = len(known) == len(chosen)

    duration_ns = sum(ledger.duration_ns for ledger in chosen)
    usual_ns = sum(usual.usual_ns for usual in known) if has_usual else None
    excess_ns = None if usual_ns is None else duration_ns - usual_ns
    ranked_by = "lost" if absolute or excess_ns is None else "excess"
    total_ns = duration_ns if ranked_by == "lost" or excess_ns is None else excess_ns

    name = _with_systems(name, [*(ledger.parts for ledger in chosen), *(usual.parts for usual in known)])
    if window:
        name = _by_service(name, chosen)
        known = [replace(usual, parts=tuple(map(of_service, usual.parts))) for usual in known]
    merged = _merge(of_service(part) if window else part for ledger in chosen for part in ledger.parts)
    parts = _ranked(_parts(merged, known if has_usual else None, name), ranked_by)
    unexplained_ns = sum(ledger.unexplained_ns for ledger in chosen)
    unexplained_usual_ns = sum(usual.unexplained_ns for usual in known) if has_usual else None
    unexplained_excess_ns = unexplained_ns - (0 if ranked_by == "lost" else unexplained_usual_ns or 0)
    culprits = _culprits(parts, ranked_by, total_ns, duration_ns, unexplained_excess_ns)
    first = chosen[0]
    examples = sorted(chosen, key=lambda ledger: -ledger.duration_ns)[:5]
    return Verdict(
        trace_id=None if window else first.trace_id,
        span_id=None if window else first.span_id,
        service=first.service,
        operation=first.operation,
        start=rfc3339(min(ledger.start_ns for ledger in chosen)),
        duration_ns=duration_ns,
        usual_ns=usual_ns,
        excess_ns=excess_ns,
        ranked_by=ranked_by,
        parts=parts,
        unexplained_ns=unexplained_ns,
        unexplained_usual_ns=unexplained_usual_ns,
        blind=_blind(chosen, name),
        culprits=culprits,
        conclusive=_conclusive(parts, culprits, ranked_by, total_ns),
        settled=all(ledger.settled for ledger in chosen),
        join=min((ledger.join for ledger in chosen), key=lambda join: join.confidence),
        requests=received if window else None,
        slow=slow if window else None,
        judged=len(chosen) if window else None,
        examples=[ledger.trace_id for ledger in examples] if window else None,
    )


def of_service(part: LedgerPart) -> LedgerPart:
    """The part of a process as its service's, and its neighbours' processes by the program that they run."""
    if part.entity_type != "process" and not part.neighbours:
        return part
    entity_id = part.service if part.entity_type == "process" and part.service else part.entity_id
    neighbours = _together(replace(ran, entity_id=_program(ran)) for ran in part.neighbours)
    return replace(part, entity_id=entity_id, neighbours=neighbours)


def _with_systems(name: Naming, parts: Iterable[Sequence[LedgerPart]]) -> Naming:
    """Names a dependency with what it is: ``postgresql at db:5432``. Its id stays its address."""
    systems = {part.entity_id: part.dependency for group in parts for part in group if part.dependency}

    def named(kind: str, identity: str) -> Entity:
        system = systems.get(identity, "") if kind == "service" else ""
        if not system or system in identity:
            return name(kind, identity)
        return Entity(kind, identity, f"{system} at {identity}")

    return named


def _together(neighbours: Iterable[Ran]) -> tuple[Ran, ...]:
    """Each neighbour once, with all that it ran."""
    ran_ns: dict[tuple[str, str], int] = defaultdict(int)
    for ran in neighbours:
        ran_ns[ran.entity_type, ran.entity_id] += ran.ran_ns
    return tuple(Ran(*entity, amount_ns) for entity, amount_ns in ran_ns.items())


def _program(neighbour: Ran) -> str:
    """``gunicorn`` for the process ``gunicorn (pid 4711)``."""
    return _PID.sub("", neighbour.entity_id) if neighbour.entity_type == "process" else neighbour.entity_id


def _by_service(name: Naming, ledgers: Sequence[Ledger]) -> Naming:
    """Names a service with how many of its processes the requests ran in: ``web (8 workers)``."""
    workers: dict[str, set[str]] = defaultdict(set)
    for ledger in ledgers:
        for part in ledger.parts:
            if part.entity_type == "process" and part.service:
                workers[part.service].add(part.entity_id)

    def named(kind: str, identity: str) -> Entity:
        count = len(workers[identity]) if kind == "process" and identity in workers else 0
        if count == 0:
            return name(kind, identity)
        return Entity(kind, identity, f"{identity} ({count} workers)" if count > 1 else identity)

    return named


def _merge(parts: Iterable[LedgerPart]) -> list[LedgerPart]:
    """One part per cause, service and entity; the reason given is that of the largest."""
    groups: dict[tuple[str, str, str, str], list[LedgerPart]] = defaultdict(list)
    for part in parts:
        groups[part.cause, part.service, part.entity_type, part.entity_id].append(part)
    return [_sum(group) for group in groups.values()]


def _sum(group: list[LedgerPart]) -> LedgerPart:
    if len(group) == 1:
        return group[0]
    largest = max(group, key=lambda part: part.lost_ns)
    return LedgerPart(
        cause=largest.cause,
        service=largest.service,
        entity_type=largest.entity_type,
        entity_id=largest.entity_id,
        lost_ns=sum(part.lost_ns for part in group),
        low_ns=sum(part.low_ns for part in group),
        high_ns=sum(part.high_ns for part in group),
        inferred=any(part.inferred for part in group),
        neighbours=_together(ran for part in group for ran in part.neighbours),
        because=largest.because,
        dependency=largest.dependency,
        dependency_type=largest.dependency_type,
        statement=largest.statement,
        place=largest.place or next((part.place for part in group if part.place), None),
        every_ns=largest.every_ns,
        source=largest.source,
        in_a_pod=largest.in_a_pod,
    )


def _parts(merged: list[LedgerPart], usuals: Sequence[Usual] | None, name: Naming) -> list[Part]:
    if usuals is None:
        return [_part(part, None, name) for part in merged]
    usually: dict[Key, list[LedgerPart]] = defaultdict(list)
    for usual in usuals:
        for part in usual.parts:
            usually[part.key].append(part)
    alike: dict[Key, list[LedgerPart]] = defaultdict(list)
    for part in merged:
        alike[part.key].append(part)
    # Where two containers share one usual part, it is divided as their time was; the rest goes to the first.
    result = []
    for key, group in alike.items():
        whole = Around.of(usually.pop(key, []))
        result += [_part(part, share, name) for part, share in zip(group, whole.divided(group), strict=True)]
    # What this operation usually spends and did not spend now: without it the usual parts would not add up.
    for gone in usually.values():
        whole = Around.of(gone)
        if whole.lost_ns > 0:
            last = gone[-1]
            absent = LedgerPart(last.cause, last.service, last.entity_type, last.entity_id, 0, 0, 0)
            result.append(_part(absent, whole, name))
    return result


@dataclass(frozen=True, slots=True)
class Around:
    """A figure and its range."""

    lost_ns: int
    low_ns: int
    high_ns: int

    @classmethod
    def of(cls, parts: Sequence[LedgerPart]) -> Around:
        """Their sum."""
        return cls(
            sum(part.lost_ns for part in parts), sum(part.low_ns for part in parts), sum(part.high_ns for part in parts)
        )

    def divided(self, parts: Sequence[LedgerPart]) -> list[Around]:
        """Shares in the proportion in which these lost time; the rest goes to the first."""
        lost = sum(part.lost_ns for part in parts)

        def shares(whole: int) -> list[int]:
            each = [whole * part.lost_ns // lost if lost else 0 for part in parts]
            return [each[0] + whole - sum(each), *each[1:]]

        return list(map(Around, shares(self.lost_ns), shares(self.low_ns), shares(self.high_ns)))


def _part(part: LedgerPart, usual: Around | None, name: Naming) -> Part:
    cause = by_name(part.cause)
    seen = Seen(part.because, part.low_ns, part.inferred, part.every_ns, part.source, part.in_a_pod)
    said = sentence(part.cause, seen)
    return Part(
        cause=part.cause,
        layer=cause.layer,
        service=part.service,
        entity=name(part.entity_type, part.entity_id),
        lost_ns=part.lost_ns,
        low_ns=part.low_ns,
        high_ns=part.high_ns,
        usual_ns=usual.lost_ns if usual else None,
        usual_low_ns=usual.low_ns if usual else None,
        usual_high_ns=usual.high_ns if usual else None,
        excess_ns=part.lost_ns - usual.lost_ns if usual else None,
        evidence="inferred" if part.inferred else "measured",
        by=_neighbours(part.neighbours, name),
        where=_where(part.place),
        because=_with_statement(said.because(seen), part),
        try_=said.to_try(seen) or cause.to_try(part.dependency_type, in_a_pod=part.in_a_pod),
    )


def _with_statement(because: str, part: LedgerPart) -> str:
    """What was seen; of a database with the statement that cost most."""
    if not part.statement:
        return because
    return f"{because}; the statement: {masked(part.statement, part.dependency)}"


def _where(place: str | None) -> dict[str, str | int] | None:
    """``{"function", "file", "line"}`` of ``"function file:line"``; None where nothing was seen."""
    function, _, rest = (place or "").partition(" ")
    file, _, line = rest.rpartition(":")
    if not function or not file or not line.isdecimal():
        return None
    return {"function": function, "file": file, "line": int(line)}


def _neighbours(ran: tuple[Ran, ...], name: Naming) -> list[Neighbour]:
    whole = sum(neighbour.ran_ns for neighbour in ran)
    worst = sorted(ran, key=lambda neighbour: (-neighbour.ran_ns, neighbour.entity_id))[:NEIGHBOURS]
    return [
        Neighbour(name(neighbour.entity_type, neighbour.entity_id), round(neighbour.ran_ns / whole, 4))
        for neighbour in worst
        if whole and neighbour.ran_ns >= NEIGHBOUR_SHARE * whole
    ]


def _weight(part: Part, ranked_by: str) -> int:
    return part.lost_ns if ranked_by == "lost" or part.excess_ns is None else part.excess_ns


def _deducted(part: Part, ranked_by: str) -> int:
    """What of a part is usual, at most, and therefore not ranked."""
    return 0 if ranked_by == "lost" else part.usual_high_ns or 0


def _is_guess(part: Part, ranked_by: str) -> bool:
    """Its range reaches down to its usual: perhaps nothing of it was lost here."""
    return part.evidence == "inferred" and part.low_ns <= _deducted(part, ranked_by)


def _ranked(parts: list[Part], ranked_by: str) -> list[Part]:
    return sorted(parts, key=lambda part: (-_weight(part, ranked_by), part.cause, part.service, part.entity.id))


def _culprits(parts: list[Part], ranked_by: str, total_ns: int, duration_ns: int, unexplained_ns: int) -> list[Culprit]:
    """One for each cause and entity, whichever services lost time to it; guesses after what is sure, else by weight.

    Where a part took less time than usual, the others exceed the excess. Shares are then of all that was added, so that
    they sum to 1 at most.
    """
    if total_ns <= 0:
        return []
    added_ns = sum(max(0, _weight(part, ranked_by)) for part in parts) + max(0, unexplained_ns)
    whole_ns = max(total_ns, added_ns)
    alike: dict[tuple[str, Entity], list[Part]] = defaultdict(list)
    for part in parts:
        alike[part.cause, part.entity].append(part)
    weights = {key: sum(_weight(part, ranked_by) for part in group) for key, group in alike.items()}
    big = [key for key, weight in weights.items() if weight >= CULPRIT_SHARE * whole_ns]
    big.sort(key=lambda key: (all(_is_guess(part, ranked_by) for part in alike[key]), -weights[key]))
    return [
        Culprit(cause, entity, _share(weights[cause, entity], whole_ns), duration_ns - weights[cause, entity])
        for cause, entity in big
    ]


def _share(part_ns: int, whole_ns: int) -> float:
    """Four digits, rounded down: shares of one whole never add up to more than 1."""
    return part_ns * 10_000 // whole_ns / 10_000


def _conclusive(parts: list[Part], culprits: list[Culprit], ranked_by: str, total_ns: int) -> bool:
    blamed = {(culprit.cause, culprit.entity) for culprit in culprits}
    sure_ns = sum(
        max(0, part.low_ns - _deducted(part, ranked_by)) for part in parts if (part.cause, part.entity) in blamed
    )
    return 2 * sure_ns >= total_ns


def _blind(ledgers: Iterable[Ledger], name: Naming) -> list[Blind]:
    """Causes that could not be seen. First those that the account of the threads would decide: it tells most apart."""
    unseen: dict[str, list[Unseen]] = defaultdict(list)
    for ledger in ledgers:
        for one in ledger.blind:
            unseen[one.cause].append(one)

    def rank(item: tuple[str, list[Unseen]]) -> tuple[bool, bool, int]:
        cause, found = item
        beyond = all(one.language and one.only_wrapper for one in found)
        return beyond, not any(one.account for one in found), by_name(cause).order

    return [
        Blind(cause, "; ".join(list(dict.fromkeys(one.reason for one in found))[:3]), to_enable(cause, found, name))
        for cause, found in sorted(unseen.items(), key=rank)
    ]


def to_enable(cause: str, found: Sequence[Unseen], name: Naming) -> str:
    """The one thing to enable, and on which machines: those that our agent does not read."""
    enable = by_name(cause).to_enable(
        foreign_readings=all(one.foreign for one in found),
        sources=tuple(sorted({source for one in found for source in one.sources})),
        agent_reads=all(one.agent_reads for one in found),
        only_wrapper=all(one.only_wrapper for one in found),
        only_agent=all(one.only_agent for one in found),
        languages=tuple(sorted({one.language or "" for one in found})),
    )
    return on_machines(enable, (one.host for one in found if not one.agent_reads), name)


def on_machines(enable: str, hosts: Iterable[str | None], name: Naming) -> str:
    """The same text with the machines' names for `on the machine`, unless they are many or not known."""
    each = dict.fromkeys(hosts)
    names = sorted(name("host", host).name for host in each if host is not None)
    if not names or len(names) < len(each) or len(names) > MACHINES or NAMELESS in names:
        return enable
    *first, last = names
    where = f"on machines {', '.join(first)} and {last}" if first else f"on machine {last}"
    return re.sub("on the machines?", lambda _: where, enable, count=1)
