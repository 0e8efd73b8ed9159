"""How right the verdicts were. Pure: records in, figures out; the same lines can be scored again at any time."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lab.record import Record, Truth
from layerline_api.demo.ask import Part, Verdict, read

#: Two faults this near to each other in size: either may be named first.
EQUAL = 0.2
#: What a stopwatch at the client can tell: a truth is known to so much and such a share of itself.
KNOWN_NS, KNOWN_RATIO = 3_000_000, 0.03
#: What counts as blame where there is nothing to blame: as much as makes a request slow.
NOISE_NS, NOISE_RATIO = 50_000_000, 0.1
HEALTHY_KINDS = ("honest", "none")
NOTHING = "none"
#: How many cases, besides those that other work disturbed, make a measurement.
CASES = 300


@dataclass(frozen=True, slots=True)
class Blame:
    """One injected fault beside what was blamed for it; times above the usual."""

    cause: str
    truth_ns: int
    blamed_ns: int
    low_ns: int
    high_ns: int
    evidence: str

    @property
    def error_ratio(self) -> float:
        """Share of the injected time by which the blame is off."""
        return abs(self.blamed_ns - self.truth_ns) / self.truth_ns if self.truth_ns else 0.0

    @property
    def error_ns(self) -> int:
        """By how much it is off."""
        return abs(self.blamed_ns - self.truth_ns)

    @property
    def inside(self) -> bool:
        """Whether the truth, as well as it is known, lies in the range."""
        known_ns = KNOWN_NS + KNOWN_RATIO * self.truth_ns
        return self.low_ns - known_ns <= self.truth_ns <= self.high_ns + known_ns

    @property
    def width_ratio(self) -> float:
        """Width of the range as a share of the injected time."""
        return (self.high_ns - self.low_ns) / self.truth_ns if self.truth_ns else 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """One case, judged."""

    record: Record
    said: str
    """The first culprit's cause, or ``none``."""
    right: bool
    in_top_three: bool
    abstained: bool
    """No culprit, or not conclusive."""
    false_blame: bool
    """A healthy request, and somebody is blamed."""
    neighbour_named: bool | None
    """None: no neighbour was injected."""
    blames: tuple[Blame, ...]
    reason: str
    """Why it is a miss, in words; empty if right."""


def score(record: Record) -> Score:
    """One case against its truth."""
    if record.failure is not None or record.verdict is None:
        reason = record.failure or "the server does not know the request"
        return Score(record, NOTHING, False, False, True, False, None, (), reason)
    verdict = read(record.verdict)
    culprits = [(one["cause"], one["entity"].get("id")) for one in record.verdict["culprits"]]
    said = verdict.first.cause if verdict.first else NOTHING
    evidence = {(part["cause"], part["entity"]["id"]): part["evidence"] for part in record.verdict["parts"]}
    if record.kind in HEALTHY_KINDS:
        return _healthy(record, verdict, said)
    blames = tuple(_blame(truth, verdict, evidence) for truth in record.truths)
    abstained = not culprits or not record.verdict["conclusive"]
    firsts = _may_be_first(record.truths)
    named = [_names(truth, culprits) for truth in record.truths]
    missing = [truth.cause for truth, there in zip(record.truths, named, strict=True) if not there]
    first_right = any(_names(truth, culprits[:1]) for truth in firsts)
    right = first_right and not missing and not abstained
    reason = ""
    if not right:
        wanted = " or ".join(cause for truth in firsts for cause in truth.accepted)
        reason = f"{wanted} expected first, {said} found"
        if first_right:
            reason = f"{', '.join(missing)} not among the culprits" if missing else "right, but not conclusive"
    neighbour = None
    if record.neighbour_id is not None:
        neighbour = any(part.by[:1] == (record.neighbour_id,) for part in verdict.parts)
    top = any(_names(truth, culprits[:3]) for truth in firsts)
    return Score(record, said, right, top, abstained, False, neighbour, blames, reason)


def _healthy(record: Record, verdict: Verdict, said: str) -> Score:
    """A request that nothing was done to: its own computing may be named, nobody else."""
    noise_ns = max(NOISE_NS, round(NOISE_RATIO * verdict.duration_ns))
    own = {truth.cause for truth in record.truths}
    blamed = [one for one in (record.verdict or {})["culprits"] if one["cause"] not in own]
    guilty = [one["cause"] for one in blamed if _excess_ns(verdict, one["cause"], one["entity"].get("id")) >= noise_ns]
    missed = bool(own) and said not in own
    reason = f"healthy, and {', '.join(guilty)} blamed" if guilty else ""
    if missed and not guilty:
        reason = f"{' or '.join(sorted(own))} expected first, {said} found"
    blames = tuple(_blame(truth, verdict, {}) for truth in record.truths)
    return Score(record, said, not guilty and not missed, not missed, False, bool(guilty), None, blames, reason)


def _excess_ns(verdict: Verdict, cause: str, entity_id: str | None) -> int:
    return max(
        (part.excess_ns for part in verdict.parts if (part.cause, part.entity_id) == (cause, entity_id)), default=0
    )


def _may_be_first(truths: Sequence[Truth]) -> list[Truth]:
    largest = max((truth.truth_ns for truth in truths), default=0)
    return [truth for truth in truths if truth.truth_ns >= (1 - EQUAL) * largest]


def _names(truth: Truth, culprits: Sequence[tuple[str, str | None]]) -> bool:
    return any(cause in truth.accepted and truth.entity_id in (None, entity) for cause, entity in culprits)


def _blame(truth: Truth, verdict: Verdict, evidence: dict[tuple[str, str], str]) -> Blame:
    """What was blamed for one fault: the largest part of each accepted cause, added up."""
    found: list[Part] = []
    for cause in truth.accepted:
        parts = [part for part in verdict.parts if part.cause == cause and truth.entity_id in (None, part.entity_id)]
        if parts:
            found.append(max(parts, key=lambda one: one.excess_ns))
    said = {evidence.get((part.cause, part.entity_id), "measured") for part in found}
    low_ns, high_ns = (sum(part.excess_range_ns[end] for part in found) for end in (0, 1))
    blamed_ns = sum(part.excess_ns for part in found)
    return Blame(truth.cause, truth.truth_ns, blamed_ns, low_ns, high_ns, min(said - {"measured"}, default="measured"))


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure and what it must be. ``value`` None: nothing to measure it with."""

    title: str
    value: float | None
    bound: float
    at_least: bool

    @property
    def reached(self) -> bool:
        """Whether it is as it must be; never where nothing was measured."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures."""

    scores: tuple[Score, ...]
    disturbed: tuple[Score, ...]
    goals: tuple[Goal, ...]
    confusion: dict[str, Counter[str]]
    """Expected cause to first culprits, single faults and look-alikes."""
    blames: dict[str, tuple[Blame, ...]]
    """By cause."""


def summarise(records: Sequence[Record], without_account: Sequence[str] = ("node",)) -> Summary:
    """Figures of a run. Disturbed cases are set aside; what is declared blind counts as no miss if abstained."""
    judged = [score(record) for record in records]
    disturbed = tuple(one for one in judged if one.record.disturbed)
    counted = tuple(one for one in judged if not one.record.disturbed)
    faulty = [one for one in counted if one.record.kind not in HEALTHY_KINDS]
    healthy = [one for one in counted if one.record.kind in HEALTHY_KINDS]
    ours = [one for one in faulty if one.record.app not in without_account]
    others = [one for one in faulty if one.record.app in without_account]
    confusion: dict[str, Counter[str]] = {}
    for one in faulty:
        if len(one.record.truths) == 1:
            confusion.setdefault(one.record.truths[0].cause, Counter())[one.said] += 1
    every = [blame for one in faulty if one.record.blind is None for blame in one.blames]
    found = [blame for blame in every if blame.evidence == "measured"]
    by_cause: dict[str, tuple[Blame, ...]] = {}
    for blame in every:
        by_cause[blame.cause] = (*by_cause.get(blame.cause, ()), blame)
    blind = [one for one in faulty if one.record.blind is not None]
    goals = (
        Goal("cases", len(counted), CASES, True),
        Goal("first culprit right, spans with our account", share([_is_hit(one) for one in ours]), 0.95, True),
        Goal("first culprit right, spans without it", share([_is_hit(one) for one in others]), 0.8, True),
        Goal("median error, of the injected time", median([one.error_ratio for one in every]), 0.1, False),
        Goal("truth inside the range, measured", share([one.inside for one in found]), 0.95, True),
        Goal("median width of the range, measured", median([one.width_ratio for one in found]), 0.2, False),
        Goal("false blame on healthy requests", share([one.false_blame for one in healthy]), 0.02, False),
        Goal("declared blind beforehand", share([one in blind for one in faulty]), 0.1, False),
    )
    return Summary(counted, disturbed, goals, confusion, by_cause)


def _is_hit(one: Score) -> bool:
    return one.right or (one.abstained and one.record.blind is not None)


def share(values: Sequence[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(values) / len(values) if values else None


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None


def percentile(values: Sequence[float], ratio: float) -> float:
    """The smallest value that at least this share of all does not exceed. ValueError if there is none."""
    if not values:
        raise ValueError("a percentile of nothing was asked for, expected at least one value")
    ordered = sorted(values)
    return ordered[max(0, -(-round(len(ordered) * ratio * 1000) // 1000) - 1)]
