"""Suspects: who may be behind time that nobody measured. They are named, and charged nothing.

A verdict charges milliseconds only where something was measured. Where much of what is ranked stays unexplained and the
causes that could explain it are blind, two things are still known: in whose own time it happened, and which
neighbours rose meanwhile. The first suspect is the neighbour that rose most, if one did; else the entity in which the
time was spent. Which cause is suspected where is said by the causes (``-- suspected in``, ``-- suspected of neighbours
by``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.ledger.causes import ANY_PLACE, USED_A_DISK, all_causes, by_name
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, within
from layerline_correlator.verdict.ledgers import WANTED_BLIND, Request, around, want_usual
from layerline_correlator.verdict.model import Suspect, SuspectReading, Verdict

#: What is read of a verdict's requests, beginning with what was usual of them.
FILES, GIVEN = ("facts/usual.sql", "verdict/suspects.sql"), ("wanted_usual",)
#: Suspects are looked for where at least this share of what is ranked is unexplained.
WORTH_LOOKING = 0.1
#: How long before the requests others' readings are looked at, to know what is usual of them.
EARLIER_NS = 10 * 60 * 10**9
#: The longest interval of a reading, and a little more.
LATER_NS = 130 * 10**9
CPU_TIME, DISK_IO = "container.cpu.time", "container.disk.io"
#: A neighbour has risen when its rate is at least so many times its usual one, and higher by at least so much: cores,
#: bytes per second.
TIMES = 3.0
RISEN = {CPU_TIME: 0.25, DISK_IO: 1_000_000.0}
#: Nobody waited for a CPU on a machine whose fullest CPU was in use for less than this much of the time.
FULL_RATIO = 0.8
#: A container that moved at least so many bytes per second may have waited for a device.
MOVED = 64 * 1024
CONTENDED, THROTTLED = "host.cpu_contended", "container.cpu_throttled"
#: Suspects named, at most.
MOST = 5


@dataclass(frozen=True, slots=True)
class Open:
    """Own time of one service in one place, above its usual, that no cause explains.

    ``ready_ns`` is how much of it may have been waited for a CPU: where the run queue was measured, what was waited for
    there. ``blind`` are the causes that could not be seen in that service, ``enclosed`` the containers that its
    container is inside of, or that are inside of it.
    """

    service: str
    container_id: str | None
    host: str | None
    excess_ns: int
    ready_ns: int
    blind: frozenset[str]
    enclosed: frozenset[str] = frozenset()
    has_usual: bool = True
    requests: int = 1
    """Over how many requests it is summed."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A rate during the requests and the usual one before them: cores for CPU time, bytes per second."""

    entity_type: str
    entity_id: str
    host: str
    signal: str
    rate: float
    usual_rate: float

    @property
    def risen(self) -> bool:
        """Whether it left its usual range upwards."""
        return self.rate >= TIMES * self.usual_rate and self.rate - self.usual_rate >= RISEN[self.signal]

    @property
    def cause(self) -> str | None:
        """What it would have done to others on its machine; None where no cause is suspected by this signal."""
        return next((cause.name for cause in all_causes() if cause.suspected_of_neighbours_by == self.signal), None)

    @property
    def reading(self) -> SuspectReading:
        """For the verdict; CPU time per time is a number of cores."""
        # A counter of nanoseconds, per nanosecond; a counter of bytes, per nanosecond.
        return SuspectReading(
            self.signal,
            "{cpu}" if self.signal.endswith("time") else "By/s",
            round(self.rate, 4),
            round(self.usual_rate, 4),
        )


def with_suspects(
    verdict: Verdict,
    cursor: duckdb.DuckDBPyConnection,
    rows: Sequence[Request],
    name: Callable[[str, str], Entity],
) -> Verdict:
    """The verdict with its suspects, and with what would decide about the first of them first among what is blind.

    ``rows`` are the requests that the verdict is of.
    """
    if not worth_looking(verdict):
        return verdict
    want_usual(cursor, rows)
    first_ns, last_ns = around(rows)
    bounds = {"since_ns": max(0, first_ns - EARLIER_NS), "until_ns": min(2**63 - 1, last_ns + LATER_NS)}
    with within(cursor, bounds["since_ns"], bounds["until_ns"] + 1, POINT):
        graph(FILES, GIVEN).run(cursor, bounds)
    blind: dict[str, set[str]] = defaultdict(set)
    for service, cause in cursor.execute(f"SELECT DISTINCT service, cause FROM {WANTED_BLIND}").fetchall():
        blind[service].add(cause)
    unexplained_ns = verdict.unexplained_ns - (0 if verdict.ranked_by == "lost" else verdict.unexplained_usual_ns or 0)
    opens = [
        Open(
            service,
            container_id,
            host,
            # Where other requests were quicker than usual, no more than the verdict says is unexplained.
            min(excess_ns, unexplained_ns) if unexplained_ns > 0 else excess_ns,
            ready_ns,
            frozenset(blind[service]),
            has_usual=verdict.usual_ns is not None,
            requests=len(rows),
        )
        for service, container_id, host, excess_ns, ready_ns in cursor.execute(
            "SELECT service, container_id, host, excess_ns, ready_ns FROM open_time"
        ).fetchall()
    ]
    beside = [
        Beside(kind, identity, host, signal, per_unit(signal, rate), per_unit(signal, usual))
        for kind, identity, host, signal, rate, usual in cursor.execute(
            "SELECT entity_type, entity_id, host, signal, rate, usual_rate FROM beside"
        ).fetchall()
    ]
    fullest = dict(cursor.execute("SELECT host, used_ratio FROM fullest_cpu").fetchall())
    opens = [
        replace(one, blind=one.blind - {CONTENDED}) if fullest.get(one.host or "", 1.0) < FULL_RATIO else one
        for one in opens
    ]
    enclosed: dict[str, set[str]] = defaultdict(set)
    for container_id, other in cursor.execute(
        "SELECT container_id, other_id FROM enclosed WHERE container_id IN (SELECT container_id FROM open_time)"
    ).fetchall():
        enclosed[container_id].add(other)
    opens = [replace(one, enclosed=frozenset(enclosed[one.container_id or ""])) for one in opens]
    named = suspects(opens, beside, verdict.excess_ns or verdict.duration_ns, name)
    if not named:
        return verdict
    first = named[0].cause
    enable = {one.cause: one.enable for one in verdict.blind}
    return replace(
        verdict,
        suspects=[replace(one, enable=enable.get(one.cause or "", "")) for one in named],
        blind=sorted(verdict.blind, key=lambda one: one.cause != first),
    )


def per_unit(signal: str, per_ns: float) -> float:
    """Of nanoseconds per nanosecond, cores; of bytes per nanosecond, bytes per second."""
    return per_ns if signal.endswith("time") else per_ns * 1e9


def worth_looking(verdict: Verdict) -> bool:
    """Whether enough of what is ranked is unexplained."""
    whole = verdict.duration_ns if verdict.excess_ns is None else verdict.excess_ns
    unexplained = verdict.unexplained_ns - (verdict.unexplained_usual_ns or 0)
    return whole > 0 and unexplained >= WORTH_LOOKING * whole and bool(verdict.blind)


def suspects(
    opens: Sequence[Open],
    beside: Sequence[Beside],
    whole_ns: int,
    name: Callable[[str, str], Entity],
) -> list[Suspect]:
    """Who may be behind the open time, most suspect first. Only causes that are blind there are suspected: what was
    measured has had its say. Neighbours and CPU limits are suspected where enough time may have been waited for a CPU.
    """
    named: list[Suspect] = []
    for place in sorted(opens, key=lambda one: -one.excess_ns):
        if place.excess_ns < WORTH_LOOKING * whole_ns:
            continue
        own = [one for one in beside if one.entity_id == place.container_id]
        same = {place.container_id, *place.enclosed}
        risen = [one for one in beside if one.entity_id not in same and one.host == place.host and one.risen]
        risen.sort(key=lambda one: -(one.rate - one.usual_rate) / RISEN[one.signal])
        waited = place.ready_ns >= WORTH_LOOKING * whole_ns
        possible = place.blind if waited else place.blind - {CONTENDED, THROTTLED}
        named += [_neighbour(one, name) for one in risen if one.cause in possible]
        named.append(_own(place, own, possible, name))
    unique = {(one.entity.type, one.entity.id, one.cause): one for one in reversed(named)}
    return [one for one in named if unique.get((one.entity.type, one.entity.id, one.cause)) is one][:MOST]


def _neighbour(one: Beside, name: Callable[[str, str], Entity]) -> Suspect:
    did = f"used {one.rate:.2g} CPU" if one.signal == CPU_TIME else f"moved {one.rate / 1e6:.2g} MB/s"
    usual = f"{one.usual_rate:.2g} CPU" if one.signal == CPU_TIME else f"{one.usual_rate / 1e6:.2g} MB/s"
    return Suspect(
        entity=name(one.entity_type, one.entity_id),
        cause=one.cause,
        excess_ns=None,
        readings=[one.reading],
        because=f"it {did} meanwhile, before that {usual}, on the same machine",
    )


def _own(place: Open, own: Sequence[Beside], blind: Collection[str], name: Callable[[str, str], Entity]) -> Suspect:
    moved = any(one.signal == DISK_IO and one.rate >= MOVED for one in own)
    # The causes of the disk first where it was used, each in the order in which causes take.
    fitting = [
        cause.name
        for place in ((USED_A_DISK, ANY_PLACE) if moved else (ANY_PLACE,))
        for cause in all_causes()
        if cause.suspected_in == place
    ]
    entity = name("container", place.container_id) if place.container_id else name("host", place.host or "")
    cause = next((cause for cause in fitting if cause in blind), None)
    more = " more than usual" if place.has_usual else ""
    together = f" by {place.requests:,} requests together" if place.requests > 1 else ""
    spent = f"{place.excess_ns / 1e6:,.0f} ms{more} were spent in {place.service or 'it'}{together}"
    said = f"{spent}, and nothing that was measured explains them"
    return Suspect(
        entity=entity,
        cause=cause,
        excess_ns=place.excess_ns,
        readings=[one.reading for one in own],
        because=f"{said}; possibly: {by_name(cause).title}" if cause else said,
    )
