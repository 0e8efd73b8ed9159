"""What changed between services: each caller, callee and operation, a window against the time before.

A change is a shift of the whole distribution: the mean of how much its 5th, 10th … 95th percentile moved. So it counts
where a part of the calls takes longer, and a few odd ones do not. It must stand out from how much single minutes of the
time before differ from all of it, or a part of the calls must take longer than nearly all did. Where the time passed
is told by what else was seen: a call whose answer took as much longer was slow at the callee; time beyond the answer
(the *gap*) is on the side whose other calls were late too, and on the way where those of neither were. Plain
arithmetic over ``edges.sql``, which reads minutes that are summed up.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from layerline_correlator.store.sealed import SPAN, within
from layerline_correlator.store.statements import run, text
from layerline_correlator.summaries.cover import cover

#: Percentiles whose shifts are averaged.
_PLACES = tuple(place / 20 for place in range(1, 20))
#: Calls of an edge that say something, before and during.
LEAST_BEFORE, LEAST_DURING = 10, 3
#: A change is told when it is at least so long, such a share of what calls took before, and so many times as much as
#: single minutes of the time before differ from all of it: 6 times the median one is four standard deviations.
LEAST_NS, LEAST_SHARE, TIMES_NOISE = 10_000_000, 0.1, 6
#: So is a part of the calls that takes so much longer than nearly all did (97 %): such a share of them, and so many.
TAIL_PLACE, TAIL_NS, TAIL_SHARE, LEAST_TAIL = 0.97, 50_000_000, 0.08, 4
#: Another edge was late too when it grew by at least such a share of what this one did.
AS_LATE = 0.25
#: The time passed inside the answer when at least such a share of the growth is not in the gap.
INSIDE = 0.5
#: Failed calls are more than before when their share grew by so much, and there were so many.
ERRORS_RATIO, LEAST_ERRORS = 0.05, 3

Key = tuple[str, str, str, str]  # caller, callee_type, callee, operation
Histogram = Mapping[int, int]  # calls by class of duration


@dataclass(frozen=True, slots=True)
class EdgeMinute:
    """The calls of one edge in one minute."""

    caller: str
    callee_type: str  # "service" | "dependency" (seen only from outside)
    callee: str
    operation: str
    minute: int
    calls: int
    errors: int
    durations: Histogram
    gaps: Histogram

    @property
    def key(self) -> Key:
        """What makes it the same edge."""
        return self.caller, self.callee_type, self.callee, self.operation


@dataclass(frozen=True, slots=True)
class EdgeChange:
    """An edge that is not as it was. Times are per call."""

    caller: str
    callee_type: str
    callee: str
    operation: str
    """Of the callee; empty for all that were hardly called before."""
    calls: int
    errors: int
    before_calls: int
    before_errors: int
    duration_change_ns: int
    gap_change_ns: int | None
    """None where the callee's answers were not received."""
    side: str | None
    """``caller``, ``way`` or ``callee``; None where nothing tells them apart."""
    sure: bool
    """Whether the answers themselves, or other calls on both ends, tell the side."""
    because: str


@dataclass(frozen=True, slots=True)
class _Grown:
    """How much an edge grew, and how much of it stands out."""

    during: _Whole
    before: _Whole
    duration_ns: int
    gap_ns: int | None
    stands_out: bool
    fails_more: bool


@dataclass(slots=True)
class _Whole:
    """All minutes of an edge together."""

    calls: int
    errors: int
    durations: Counter[int]
    gaps: Counter[int]
    minutes: list[EdgeMinute]

    @classmethod
    def of(cls, minutes: list[EdgeMinute]) -> _Whole:
        durations, gaps = Counter[int](), Counter[int]()
        for one in minutes:
            durations.update(one.durations)
            gaps.update(one.gaps)
        return cls(sum(one.calls for one in minutes), sum(one.errors for one in minutes), durations, gaps, minutes)


def read_edges(
    cursor: duckdb.DuckDBPyConnection, window: tuple[int, int], before: Sequence[tuple[int, int]]
) -> list[EdgeChange]:
    """What changed from ``before`` to ``window`` (half-open, in ns), the largest changes first.

    ``before`` are stretches without trouble: what was wrong then must not look usual.
    """
    return compare([one for stretch in before for one in _minutes(cursor, stretch)], _minutes(cursor, window))


def _minutes(cursor: duckdb.DuckDBPyConnection, window: tuple[int, int]) -> list[EdgeMinute]:
    with within(cursor, *window, SPAN):
        cover(cursor, "span", *window)
        (rows,) = run(cursor, "verdict/edges.sql")
    return [EdgeMinute(*row) for row in rows]


def add_minutes(cursor: duckdb.DuckDBPyConnection, table: str, window: tuple[int, int]) -> None:
    """Write the calls of these minutes into a temporary table of the columns of ``edges.sql``."""
    with within(cursor, *window, SPAN):
        cover(cursor, "span", *window)
        cursor.execute(f"INSERT INTO {table}\n{text('verdict/edges.sql')}").fetchall()


def compare(before: Sequence[EdgeMinute], during: Sequence[EdgeMinute]) -> list[EdgeChange]:
    """The edges that are slower, or fail more often, than before; what adds most time together comes first.

    Last those whose callee only passes on what its own calls took longer.
    """
    known = Counter[Key]()
    for minute in before:
        known[minute.key] += minute.calls
    then, now = _by_edge(before, known), _by_edge(during, known)
    grown = {
        key: _grown(then[key], whole)
        for key, whole in now.items()
        if key in then and then[key].calls >= LEAST_BEFORE and whole.calls >= LEAST_DURING
    }
    found = [_change(key, one, grown) for key, one in grown.items() if one.stands_out or one.fails_more]
    grows_below: dict[str, int] = defaultdict(int)  # by caller
    for one in found:
        grows_below[one.caller] = max(grows_below[one.caller], one.duration_change_ns)

    def order(one: EdgeChange) -> tuple[bool, int, int, str, str]:
        inside = one.side == "callee" and one.gap_change_ns is not None
        passed_on = inside and grows_below[one.callee] >= INSIDE * one.duration_change_ns
        return passed_on, -one.duration_change_ns * one.calls, -one.errors, one.caller, one.callee

    return sorted(found, key=order)


def _by_edge(minutes: Sequence[EdgeMinute], known: Mapping[Key, int]) -> dict[Key, _Whole]:
    """Operations that were hardly called before are one, without a name: there may be an id in each of their names."""
    edges: dict[Key, list[EdgeMinute]] = defaultdict(list)
    for one in minutes:
        key = one.key if known.get(one.key, 0) >= LEAST_BEFORE else (*one.key[:3], "")
        edges[key].append(one)
    return {key: _Whole.of(own) for key, own in edges.items()}


def _grown(before: _Whole, during: _Whole) -> _Grown:
    usual_ns = middle_ns(before.durations)
    duration_ns = round(middle_ns(during.durations) - usual_ns)
    answered = sum(before.gaps.values()) >= LEAST_BEFORE and sum(during.gaps.values()) >= LEAST_DURING
    # A minute with fewer calls than the window differs more, by chance; one with more differs less.
    noise_ns = statistics.median(
        [
            abs(middle_ns(one.durations) - usual_ns) * max(1.0, math.sqrt(one.calls / during.calls))
            for one in before.minutes
            if one.calls >= LEAST_DURING
        ]
        or [0]
    )
    least_ns = max(LEAST_NS, LEAST_SHARE * usual_ns, TIMES_NOISE * noise_ns)
    return _Grown(
        during,
        before,
        duration_ns,
        shift(before.gaps, during.gaps) if answered else None,
        duration_ns >= least_ns or (duration_ns >= LEAST_NS and has_tail(before, during, usual_ns)),
        during.errors >= LEAST_ERRORS and during.errors / during.calls >= before.errors / before.calls + ERRORS_RATIO,
    )


def has_tail(before: _Whole, during: _Whole, usual_ns: float) -> bool:
    """Whether a part of the calls takes longer than nearly all did, and no minute of the time before was like that."""
    limit_ns = quantile(before.durations, TAIL_PLACE) + max(TAIL_NS, usual_ns / 4)
    usually = [beyond(one.durations, limit_ns) / one.calls for one in before.minutes if one.calls >= LEAST_BEFORE]
    found = beyond(during.durations, limit_ns)
    return found >= LEAST_TAIL and found / during.calls >= max(TAIL_SHARE, 2 * max(usually, default=0.0))


def beyond(histogram: Histogram, limit_ns: float) -> int:
    """How many calls took longer."""
    return sum(calls for group, calls in histogram.items() if 1.01**group > limit_ns)


def shift(before: Histogram, during: Histogram) -> int:
    """How much longer the middle 90 % of the calls take, on average, in ns."""
    return round(middle_ns(during) - middle_ns(before))


def middle_ns(histogram: Histogram) -> float:
    """The mean of the quantiles that are compared: how long the middle 90 % of the calls take, on average."""
    whole, seen, reached, added_ns = sum(histogram.values()), 0, 0, 0.0
    for group in sorted(histogram):
        seen += histogram[group]
        while reached < len(_PLACES) and seen >= _PLACES[reached] * whole:
            added_ns, reached = added_ns + 1.01**group, reached + 1
    return added_ns / len(_PLACES)


def quantile(histogram: Histogram, place: float) -> float:
    """The duration that this share of the calls does not exceed, in ns."""
    wanted, seen = place * sum(histogram.values()), 0
    for group in sorted(histogram):
        seen += histogram[group]
        if seen >= wanted:
            return float(1.01**group)
    return 0.0


def _change(key: Key, one: _Grown, grown: Mapping[Key, _Grown]) -> EdgeChange:
    caller, callee_type, callee, operation = key
    side, sure, because = _side(key, one, grown)
    return EdgeChange(
        caller,
        callee_type,
        callee,
        operation,
        one.during.calls,
        one.during.errors,
        one.before.calls,
        one.before.errors,
        one.duration_ns,
        one.gap_ns,
        side,
        sure,
        because,
    )


def _side(key: Key, one: _Grown, grown: Mapping[Key, _Grown]) -> tuple[str | None, bool, str]:
    """On which side the time passed, whether that is sure, and why."""
    caller, callee_type, callee, _ = key
    if not one.stands_out:
        return "callee", False, f"{one.during.errors} of {one.during.calls} calls failed; they took no longer"
    if one.gap_ns is not None and one.gap_ns <= INSIDE * one.duration_ns:
        return "callee", True, f"its answers took {(one.duration_ns - one.gap_ns) / 1e6:.0f} ms longer"
    least_ns = AS_LATE * _late_ns(one)
    to_callee = [other for edge, other in grown.items() if edge[1:3] == (callee_type, callee) and edge[0] != caller]
    of_caller = [other for edge, other in grown.items() if edge[0] == caller and edge[1:3] != (callee_type, callee)]
    others_late = any(_late_ns(other) >= max(LEAST_NS, least_ns) for other in to_callee)
    own_late = any(_late_ns(other) >= max(LEAST_NS, least_ns) for other in of_caller)
    beyond = f"calls took {_late_ns(one) / 1e6:.0f} ms longer" + (
        " than their answers" if one.gap_ns is not None else ""
    )
    if others_late and not own_late:
        return "callee", bool(of_caller), f"{beyond}; calls of others to {callee} were late too"
    if own_late and not others_late:
        return "caller", bool(to_callee), f"{beyond}; other calls of {caller} were late too"
    if others_late and own_late:
        return None, False, f"{beyond}; other calls of {caller} and calls of others to {callee} were late too"
    if to_callee and of_caller:
        return "way", True, f"{beyond}; other calls of {caller}, and calls of others to {callee}, were as usual"
    if to_callee:
        return None, False, f"{beyond}; calls of others to {callee} were as usual, {caller} called nobody else"
    if of_caller:
        side = "callee" if one.gap_ns is None else None
        return side, False, f"{beyond}; other calls of {caller} were as usual, nobody else called {callee}"
    return None, False, f"{beyond}; there were no other calls to compare with"


def _late_ns(one: _Grown) -> int:
    """How much longer the calls were under way; all of it where their answers were not received."""
    return one.duration_ns if one.gap_ns is None else one.gap_ns
