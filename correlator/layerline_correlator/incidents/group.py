"""Which stretches of trouble are one incident: those at the same time that have the same first culprit.

A slow callee makes its callers slow; each of them is found by itself, and each blames the same part of the path. A CPU
limit or a dependency holds up many operations at once. But code that is slow in one operation says nothing of the code
of another, although both run in the same process: such causes (``-- at fault: one operation's code``) are one fault
only in the same operation, in the same function, in the same traces, or where both began together, as after a deploy.
What was split (takeover.py) stays apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from layerline_correlator.ledger.causes import by_name

#: Trouble that returns within this time, with the same culprit, is the same incident.
APART_NS = 120 * 10**9
#: And within this time where neither has a culprit, in the same operation.
RETURNS_NS = 60 * 10**9
#: Of the affected requests of the smaller of two, this share in the same traces as those of the other, at least.
SHARED_RATIO = 0.5
#: Slow code in two operations of a service is one fault when it began in both within this time.
BEGAN_TOGETHER_NS = 30 * 10**9


@dataclass(frozen=True, slots=True)
class Blamed:
    """A culprit, by what makes two of them the same: its cause, and either its entity or its service."""

    cause: str
    service: str
    entity_type: str
    entity_id: str
    share: float
    operation: str = ""  # service and operation whose requests blame it
    function: str = ""  # "function file" where it was seen; "" where nobody looked

    def same(self, other: Blamed) -> bool:
        """A container that was made anew, or another of the same service, is still the same culprit."""
        return self.cause == other.cause and (
            (self.entity_type, self.entity_id) == (other.entity_type, other.entity_id)
            or (self.service == other.service and self.entity_type != "service")
        )

    def same_fault(self, other: Blamed) -> bool:
        """The same culprit, and where one operation's code is at fault the same operation, or the same function."""
        return self.same(other) and (
            not by_name(self.cause).of_one_operation
            or self.operation == other.operation
            or (self.function != "" and self.function == other.function)
        )


@dataclass(frozen=True, slots=True)
class Trouble:
    """One operation's stretch of trouble, as far as grouping is concerned."""

    key: str
    start_ns: int
    end_ns: int | None
    culprits: tuple[Blamed, ...]  # the first is the most to blame
    traces: frozenset[str]  # of some of its affected requests
    incident: str | None = None  # that it was found to belong to
    split_from: str | None = None  # the incident that it was part of until another cause had taken over
    fails: tuple[str, ...] | None = None  # what fails, where errors are the trouble
    operation: tuple[str, str] | None = None  # service and operation, where it is of one
    callees: frozenset[str] = frozenset()  # calls to them were late, or failed, and nothing else shows the trouble


def together(troubles: Sequence[Trouble]) -> list[list[Trouble]]:
    """The groups, each and all in order of start. Relations are followed: a to b and b to c is one incident."""
    rest = sorted(troubles, key=lambda one: (one.start_ns, one.key))
    groups: list[list[Trouble]] = []
    while rest:
        group = [rest.pop(0)]
        for member in group:  # grows while it is walked
            for one in list(rest):
                if are_related(member, one) and not any(are_apart(one, each) for each in group):
                    group.append(one)
                    rest.remove(one)
        groups.append(sorted(group, key=lambda one: (one.start_ns, one.key)))
    return groups


def are_related(one: Trouble, other: Trouble) -> bool:
    """Whether both belong to one incident; what was together stays together."""
    if one.incident is not None and one.incident == other.incident:
        return True
    if not _at_the_same_time(one, other):
        return False
    if one.fails is not None and one.fails == other.fails:
        return True
    if _same_calls(one, other) or _same_calls(other, one):
        return True
    nameless = not one.culprits and not other.culprits and one.fails is other.fails is None
    if nameless and one.operation is not None and one.operation == other.operation:
        return _at_the_same_time(one, other, RETURNS_NS)
    if one.culprits and other.culprits:
        first, second = one.culprits[0], other.culprits[0]
        if first.same_fault(second):
            return True
        if first.same(second) and abs(one.start_ns - other.start_ns) <= BEGAN_TOGETHER_NS:
            return True
    if not _same_traces(one.traces, other.traces):
        return False
    # Without a culprit (errors, unexplained time) the traces alone tell.
    if not one.culprits or not other.culprits:
        return True
    return _names(other.culprits, one.culprits[0]) or _names(one.culprits, other.culprits[0])


def _same_calls(calling: Trouble, other: Trouble) -> bool:
    """Whether what only calls show is a part of the other: of the callee, of another caller, or of the same one."""
    if not calling.callees or calling.operation is None or other.operation is None:
        return False
    if calling.callees & (other.callees | {other.operation[0]}):
        return True
    if other.culprits and calling.callees & {other.culprits[0].service, other.culprits[0].entity_id}:
        return True
    if calling.operation[0] == other.operation[0] and abs(calling.start_ns - other.start_ns) <= BEGAN_TOGETHER_NS:
        return bool(other.callees) or not other.culprits
    return _same_traces(calling.traces, other.traces)


def are_apart(one: Trouble, other: Trouble) -> bool:
    """Whether one was split off from the other's incident."""
    return one.incident != other.incident and (
        (one.split_from is not None and one.split_from == other.incident)
        or (other.split_from is not None and other.split_from == one.incident)
    )


def _at_the_same_time(one: Trouble, other: Trouble, apart_ns: int = APART_NS) -> bool:
    first, second = sorted((one, other), key=lambda each: each.start_ns)
    return first.end_ns is None or second.start_ns <= first.end_ns + apart_ns


def _same_traces(some: Collection[str], others: Collection[str]) -> bool:
    smaller = min(len(some), len(others))
    return smaller > 0 and len(set(some) & set(others)) >= SHARED_RATIO * smaller


def _names(culprits: Sequence[Blamed], wanted: Blamed) -> bool:
    return any(culprit.same(wanted) for culprit in culprits)
