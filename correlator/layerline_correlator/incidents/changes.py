"""Which of the things that changed near the start of an incident have to do with it, and which one fits best.

Pure judgement on plain data: a change is listed when it happened to somebody on the path of the slow requests, to a
neighbour that they waited behind, or is a deploy; it is likely when it can bring about the first culprit. Which changes
can bring a cause about is said by the cause (``-- fits:`` in its file); here is how each of them is recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.group import Blamed
from layerline_correlator.incidents.model import Change
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.model import Failure

#: Changes are looked for from so long before the start of an incident until so long after it.
BEFORE_NS, AFTER_NS = 600 * 10**9, 30 * 10**9
#: Changes listed, at most.
MOST = 20
#: A likely change happened before the trouble; clocks and steps may differ by this much.
_ROOM_NS = 10 * 10**9

#: A neighbour that started explains a wait if it ran at least this share of what ran during it.
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
    failure: Failure | None = None,
) -> list[Change]:
    """The changes to tell, the likely ones first, then those nearest to the start.

    Of an incident of errors a change is likely when it can bring about the failure, else the first culprit.
    """
    on_path = {container: service for service, containers in path.services.items() for container in containers}
    related: list[tuple[tuple[bool, float, int], Change]] = []
    seen: set[tuple[str | None, str]] = set()
    for event in sorted(happened, key=lambda each: (each.at_ns, each.kind, each.what)):
        is_related = (
            event.is_deploy
            or event.service in path.services
            or event.container_id in on_path
            or event.container_id in path.neighbours
            or event.container_id in path.addresses
        )
        key = (event.container_id, event.kind)
        if not is_related or (event.kind == "neighbour" and (event.container_id, "container.start") in seen):
            continue
        seen.add(key)
        service = event.service or on_path.get(event.container_id or "")
        weight, why = 0.0, ""
        if event.at_ns <= start_ns + _ROOM_NS:
            if failure is not None:
                weight, why = fit_error(event, service, path, failure)
            elif culprit is not None:
                weight, why = fit(event, service, path, culprit)
        change = Change(
            at=rfc3339(event.at_ns),
            offset_ns=event.at_ns - start_ns,
            kind=event.kind,
            entity=name("container", event.container_id) if event.container_id else None,
            what=event.what,
            likely=weight > 0,
            why=why,
        )
        related.append(((weight == 0, -weight, abs(event.at_ns - start_ns)), change))
    return [change for _, change in sorted(related, key=lambda item: item[0])[:MOST]]


def fit(event: Happened, service: str | None, path: Path, culprit: Blamed) -> tuple[float, str]:
    """How well a change of this service explains the culprit, and why: 0 if it does not.

    What stands first in the cause's file fits best; of the same kind of change, what ``RECOGNISED`` says.
    """
    fits = by_name(culprit.cause).fits
    for place, each in enumerate(fits):
        share = RECOGNISED[each.change](event, service, path, culprit)
        if share > 0:
            return len(fits) - place - 1 + share, each.why.format(share=f"{share:.0%}".replace("%", " %"))
    return 0.0, ""


def fit_error(event: Happened, service: str | None, path: Path, failure: Failure) -> tuple[float, str]:
    """How well a change of this service explains that requests fail, and why: 0 if it does not."""
    is_called = failure.dependency and (
        service == failure.entity.id or path.addresses.get(event.container_id or "") == failure.entity.id
    )
    is_here = service == failure.service or (event.container_id is not None and event.container_id == failure.entity.id)
    unknown = event.is_deploy and service is None and event.container_id is None
    if event.kind in (*ENDS, *STARTS) and event.kind != "neighbour" and (is_called or is_here):
        return (5.0, "it is what was called") if is_called else (3.0, "requests fail in it")
    if event.kind in NEW_CODE or event.is_deploy:
        if is_here:
            return (
                4.0,
                "the error comes out of new code" if not failure.dependency else "new code may call it in another way",
            )
        if is_called:
            return 4.5, "it is what was called"
        if service in failure.services:
            return 2.0, "it is on the way of the requests that fail"
        if unknown:
            return 1.0, "it may have been of this service"
    if event.kind in LIMITS and (is_called or is_here):
        return 1.5, "what it may use changed"
    return 0.0, ""


Recognised = Callable[[Happened, str | None, Path, Blamed], float]


def _of_service(event: Happened, service: str | None, culprit: Blamed) -> bool:
    return service == culprit.service or event.container_id == culprit.entity_id


def _limit_changed(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    # What was read of the limit itself says more than that the container was updated.
    return (
        {"limit": 1.0}.get(event.kind, 0.9) if event.kind in LIMITS and event.container_id == culprit.entity_id else 0.0
    )


def _container_started(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    return float(event.kind in STARTS and _of_service(event, service, culprit))


def _stopped_or_started(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    return float(event.kind in (*ENDS, *STARTS) and event.container_id == culprit.entity_id)


def _new_code(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    is_new = event.kind in NEW_CODE or event.is_deploy
    # A deploy that does not say of which service may have been of this one.
    unknown = event.is_deploy and service is None and event.container_id is None
    return float(is_new and (unknown or _of_service(event, service, culprit)))


def _neighbour_started(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    share = 0.0 if _of_service(event, service, culprit) else path.neighbours.get(event.container_id or "", 0.0)
    return share if event.kind in STARTS and share >= NEIGHBOUR_SHARE else 0.0


def _callee_changed(event: Happened, service: str | None, path: Path, culprit: Blamed) -> float:
    return float(path.addresses.get(event.container_id or "") == culprit.entity_id)


#: How each change of ``causes.CHANGES`` is recognised: from 0, it is not, to 1.
RECOGNISED: Mapping[str, Recognised] = {
    "limit changed": _limit_changed,
    "container started": _container_started,
    "container stopped or started": _stopped_or_started,
    "new code": _new_code,
    "neighbour started": _neighbour_started,
    "callee changed": _callee_changed,
}


def neighbours_of(parts: Sequence[tuple[str, Sequence[tuple[str, float]]]], cause: str | None) -> dict[str, float]:
    """Of (cause, neighbours) of parts: how large a share of what ran each neighbour had, those of the culprit first."""
    shares: dict[str, float] = {}
    for wanted in (True, False):
        for of_cause, neighbours in parts:
            if (of_cause == cause) is wanted:
                for entity_id, share in neighbours:
                    shares.setdefault(entity_id, share)
    return shares
