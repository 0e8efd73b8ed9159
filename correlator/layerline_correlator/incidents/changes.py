"""Which of the things that changed near the start of an incident have to do with it, and which one fits best.

Pure judgement on plain data: a change is told when it happened to somebody on the path of the slow requests, to a
neighbour that they waited behind, or is a deploy; it is likely when it can bring about the first culprit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.group import Blamed
from layerline_correlator.incidents.model import Change
from layerline_correlator.times import rfc3339

#: Changes are looked for from so long before the start of an incident until so long after it.
BEFORE_NS, AFTER_NS = 600 * 10**9, 30 * 10**9
#: Changes told, at most.
MOST = 20
#: A likely change happened before the trouble; clocks and steps may differ by this much.
_ROOM_NS = 10 * 10**9

#: A neighbour that started explains a wait if it ran at least this share of what ran meanwhile.
NEIGHBOUR_SHARE = 0.2

STARTS = ("container.start", "container.restart", "neighbour")
ENDS = ("container.die", "container.oom", "container.kill", "container.restart", "container.pause")
LIMITS = ("limit", "container.update")
NEW_CODE = ("version", "deploy")


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that changed."""

    at_ns: int
    kind: str
    container_id: str | None
    service: str | None
    what: str

    @property
    def is_deploy(self) -> bool:
        return "deploy" in self.kind


@dataclass(frozen=True, slots=True)
class Path:
    """Who had to do with the slow requests."""

    services: Mapping[str, frozenset[str]]  # service: the containers that it ran in
    neighbours: Mapping[str, float]  # container that ran meanwhile: its share
    addresses: Mapping[str, str]  # container: the dependency by whose address it is called


def judge_changes(
    happened: Iterable[Happened],
    path: Path,
    culprit: Blamed | None,
    start_ns: int,
    name: Callable[[str, str], Entity],
) -> list[Change]:
    """The changes to tell, the likely ones first, then those nearest to the start."""
    on_path = {container: service for service, containers in path.services.items() for container in containers}
    told: list[tuple[tuple[bool, float, int], Change]] = []
    seen: set[tuple[str | None, str]] = set()
    for one in sorted(happened, key=lambda each: (each.at_ns, each.kind, each.what)):
        related = (
            one.is_deploy
            or one.service in path.services
            or one.container_id in on_path
            or one.container_id in path.neighbours
            or one.container_id in path.addresses
        )
        key = (one.container_id, one.kind)
        if not related or (one.kind == "neighbour" and (one.container_id, "container.start") in seen):
            continue
        seen.add(key)
        service = one.service or on_path.get(one.container_id or "")
        weight, why = _fits(one, service, path, culprit) if one.at_ns <= start_ns + _ROOM_NS else (0.0, "")
        change = Change(
            at=rfc3339(one.at_ns),
            offset_ns=one.at_ns - start_ns,
            kind=one.kind,
            entity=name("container", one.container_id) if one.container_id else None,
            what=one.what,
            likely=weight > 0,
            why=why,
        )
        told.append(((weight == 0, -weight, abs(one.at_ns - start_ns)), change))
    return [change for _, change in sorted(told, key=lambda item: item[0])[:MOST]]


def _fits(one: Happened, service: str | None, path: Path, culprit: Blamed | None) -> tuple[float, str]:
    """How well a change explains the culprit, 0 to 1, and why."""
    if culprit is None:
        return 0.0, ""
    of_service = service == culprit.service or one.container_id == culprit.entity_id
    new_code = one.kind in NEW_CODE or one.is_deploy
    if culprit.cause.startswith("host.") or culprit.cause == "app.cpu_crowded":
        share = 0.0 if of_service else path.neighbours.get(one.container_id or "", 0.0)
        if one.kind in STARTS and share >= NEIGHBOUR_SHARE:
            return 0.5 + share / 2, f"it ran {share:.0%} of what the slow requests waited behind"
        return (0.3, "new code may use more of the machine") if new_code and of_service else (0.0, "")
    if culprit.cause in ("container.cpu_throttled", "container.memory_stalled", "container.io_throttled"):
        if one.kind in LIMITS and one.container_id == culprit.entity_id:
            return (1.0 if one.kind == "limit" else 0.9), "its limit is what the slow requests waited for"
        if (one.kind in STARTS or new_code) and of_service:
            return 0.6 if new_code else 0.5, "it may have come with another limit, or need more"
        return 0.0, ""
    if culprit.cause in ("container.paused", "container.restarted", "container.oom_killed", "app.cold_started"):
        if one.container_id == culprit.entity_id and one.kind in (*ENDS, *STARTS):
            return 0.9, "it is what the slow requests waited for"
        return (0.5, "containers are made anew for it") if new_code and of_service else (0.0, "")
    if culprit.entity_type == "service":
        if path.addresses.get(one.container_id or "") == culprit.entity_id:
            return 0.8, "it is what the slow requests called"
        return (0.4, "new code may call it otherwise") if new_code and of_service else (0.0, "")
    if culprit.cause.startswith("app."):
        if new_code and (of_service or (one.is_deploy and service is None)):
            return 0.9, "the time went into this service's own code"
        return (0.5, "it runs the code that the time went into") if one.kind in STARTS and of_service else (0.0, "")
    return 0.0, ""


def neighbours_of(parts: Sequence[tuple[str, Sequence[tuple[str, float]]]], cause: str | None) -> dict[str, float]:
    """Of (cause, neighbours) of parts: how large a share of what ran each neighbour had, those of the culprit first."""
    shares: dict[str, float] = {}
    for wanted in (True, False):
        for of_cause, neighbours in parts:
            if (of_cause == cause) is wanted:
                for entity_id, share in neighbours:
                    shares.setdefault(entity_id, share)
    return shares
