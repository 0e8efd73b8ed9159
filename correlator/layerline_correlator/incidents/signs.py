"""The signs of trouble of every operation, step by step, and the stretches in which there were too many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from layerline_correlator.incidents.detect import (
    STEP_NS,
    Seen,
    Step,
    Stretch,
    first_hit_ns,
    last_hit_ns,
    stretches,
    usual_ratio,
)
from layerline_correlator.store.statements import run, text

#: How far around a stretch's first or last step its first or last request is looked for.
_AROUND_NS = 4 * STEP_NS
#: Stretches of one operation that are no further apart are one. What returns later is the same incident where it has
#: the same culprit (group.py).
GAP_NS = 30 * 10**9


#: Signs that are counted over calls, not over requests (late_calls.py).
LATE_CALLS, FAILED_CALLS = "late_calls", "failed_calls"
OF_CALLS = frozenset({LATE_CALLS, FAILED_CALLS})
#: No request takes so long: where calls are the only sign, a request is not affected by how long it took.
NEVER_NS = 2**62


@dataclass(frozen=True, slots=True, order=True)
class Sign:
    """What is counted: requests that are slow, slower than nearly all, failed, or lost much to one cause.

    Of calls ``cause`` is the callee's type, ``service`` the callee and ``address`` its operation.
    """

    kind: str  # "slow" | "tail" | "error" | "cause" | "late_calls" | "failed_calls"
    cause: str = ""
    service: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """What is usual for an operation."""

    requests: int
    base_ns: int
    slow_ns: int
    tail_ns: int | None  # what hardly any request takes, of a mixed operation: more than what is slow
    usual: dict[Sign, float]  # the usual share of requests that show a sign
    least_ns: dict[Sign, int]  # of a cause: what a request must lose to it

    def least(self, sign: Sign) -> int:
        """From how much lost to it a cause is a sign; of one that was not there before as in ``steps.sql``."""
        least_share = 4 if sign.cause.startswith("app.") or not sign.cause else 10
        return self.least_ns.get(sign, max(50_000_000, self.base_ns // least_share))

    def slow_from_ns(self, kinds: Collection[str]) -> int:
        """From which duration on a request is affected, where these kinds of signs were seen."""
        if OF_CALLS.issuperset(kinds):
            return NEVER_NS
        return self.tail_ns if self.tail_ns is not None and "tail" in kinds and "slow" not in kinds else self.slow_ns

    def usual_ratio(self, sign: Sign) -> float:
        return self.usual.get(sign, usual_ratio(0, self.requests))


Lasted = tuple[Sign, Stretch]  # a sign, and a time in which it was seen too often
Operation = tuple[str, str]  # service, operation


def read_bases(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, at_ns: int) -> dict[Operation, Base]:
    """The bases of operations with requests in the window; leaves the tables of base.sql."""
    run(cursor, "incidents/base.sql", {"from_ns": from_ns, "to_ns": to_ns, "at_ns": at_ns})
    bases = {}
    for service, operation, requests, base_ns, slow_ns, slow, errors, tail_ns, tail in cursor.execute(
        "SELECT service, operation, requests, base_ns, slow_ns, slow_hits, error_hits, tail_ns, tail_hits FROM base"
        " ORDER BY ALL"
    ).fetchall():
        usual = {Sign("slow"): usual_ratio(slow, requests), Sign("error"): usual_ratio(errors, requests)}
        if tail_ns is not None:
            usual[Sign("tail")] = usual_ratio(tail, requests)
        bases[service, operation] = Base(requests, base_ns, slow_ns, tail_ns, usual, {})
    for service, operation, cause, part_service, address, least_ns, hits in cursor.execute(
        "SELECT service, operation, cause, part_service, address, least_ns, hits FROM base_cause ORDER BY ALL"
    ).fetchall():
        base, sign = bases[service, operation], Sign("cause", cause, part_service, address)
        base.usual[sign] = usual_ratio(hits, base.requests)
        base.least_ns[sign] = least_ns
    return bases


def read_steps(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> dict[Operation, dict[Sign, list[Step]]]:
    """For every operation with a base: the steps of each sign that was seen at all, and of slow and failed requests."""
    run(cursor, "incidents/steps.sql", {"from_ns": from_ns, "to_ns": to_ns})
    requests: dict[Operation, dict[int, int]] = defaultdict(dict)
    hits: dict[Operation, dict[Sign, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for service, operation, step_ns, count, slow, errors, tail in cursor.execute(
        "SELECT service, operation, step_ns, requests, slow, errors, tail FROM step ORDER BY ALL"
    ).fetchall():
        requests[service, operation][step_ns] = count
        hits[service, operation][Sign("slow")][step_ns] = slow
        hits[service, operation][Sign("error")][step_ns] = errors
        hits[service, operation][Sign("tail")][step_ns] = tail
    for service, operation, step_ns, cause, part_service, address, count in cursor.execute(
        "SELECT service, operation, step_ns, cause, part_service, address, hits FROM step_cause ORDER BY ALL"
    ).fetchall():
        hits[service, operation][Sign("cause", cause, part_service, address)][step_ns] = count
    return {
        operation: {
            sign: [Step(step_ns, count, by_step.get(step_ns, 0)) for step_ns, count in sorted(counts.items())]
            for sign, by_step in hits[operation].items()
        }
        for operation, counts in requests.items()
    }


def find(steps: dict[Sign, list[Step]], base: Base, open_since: Mapping[Sign, int]) -> list[list[Lasted]]:
    """The stretches of trouble of one operation, those together that are no further apart than ``GAP_NS``.

    Signs that are known to go on, and since when, are followed to their end.
    """
    each = [
        (sign, stretch)
        for sign in sorted({*steps, *open_since})
        for stretch in stretches(steps.get(sign) or _without(steps), base.usual_ratio(sign), open_since.get(sign))
    ]
    each.sort(key=lambda item: (item[1].from_ns, item[0]))
    groups: list[list[Lasted]] = []
    until_ns: int | None = None
    for item in each:
        stretch = item[1]
        if groups and (until_ns is None or stretch.from_ns <= until_ns + GAP_NS):
            groups[-1].append(item)
            until_ns = None if until_ns is None or stretch.to_ns is None else max(until_ns, stretch.to_ns)
        else:
            groups.append([item])
            until_ns = stretch.to_ns
    return groups


def _without(steps: dict[Sign, list[Step]]) -> list[Step]:
    """The steps of a sign that was not seen."""
    return [Step(step.from_ns, step.requests, 0) for step in steps.get(Sign("slow"), ())]


def end_of(lasted: Sequence[Lasted]) -> int | None:
    """When the last of them was over; None while one is ongoing."""
    ends = [stretch.to_ns for _, stretch in lasted]
    return None if None in ends else max(end for end in ends if end is not None)


def begun(cursor: duckdb.DuckDBPyConnection, operation: Operation, base: Base, sign: Sign, stretch: Stretch) -> Stretch:
    """The stretch from the start of the first request that made it, not from its first step."""
    seen = _seen(cursor, operation, base, sign, stretch.from_ns - _AROUND_NS, stretch.noticed_ns)
    first_ns = first_hit_ns(seen, base.usual_ratio(sign))
    return stretch if first_ns is None else replace(stretch, from_ns=first_ns)


def finished(
    cursor: duckdb.DuckDBPyConnection, operation: Operation, base: Base, sign: Sign, stretch: Stretch
) -> Stretch:
    """The stretch until the end of the last request that made it, not of its last step; an ongoing one unchanged."""
    if stretch.to_ns is None:
        return stretch
    seen = _seen(cursor, operation, base, sign, stretch.to_ns - _AROUND_NS, stretch.to_ns + _AROUND_NS)
    last_ns = last_hit_ns(seen, base.usual_ratio(sign))
    return stretch if last_ns is None else replace(stretch, to_ns=max(last_ns, stretch.from_ns + 1))


def calls_of(operation: Operation, sign: Sign, from_ns: int, to_ns: int) -> dict[str, str | int]:
    """What selects the calls of a sign that were made for requests of one operation."""
    return {
        "service": operation[0],
        "operation": operation[1],
        "sign": sign.kind,
        "callee_type": sign.cause,
        "callee": sign.service,
        "call": sign.address,
        "from_ns": from_ns,
        "to_ns": to_ns,
    }


def _seen(
    cursor: duckdb.DuckDBPyConnection, operation: Operation, base: Base, sign: Sign, from_ns: int, to_ns: int
) -> list[Seen]:
    if sign.kind in OF_CALLS:
        (found,) = run(cursor, "incidents/seen_calls.sql", calls_of(operation, sign, from_ns, to_ns))
        return [Seen(*row) for row in found]
    rows = cursor.execute(
        text("incidents/seen.sql"),
        {
            "sign": sign.kind,
            "service": operation[0],
            "operation": operation[1],
            "slow_ns": base.slow_from_ns({sign.kind}),
            "cause": sign.cause,
            "part_service": sign.service,
            "address": sign.address,
            "least_ns": base.least(sign),
            "from_ns": from_ns,
            "to_ns": to_ns,
        },
    ).fetchall()
    return [Seen(*row) for row in rows]
