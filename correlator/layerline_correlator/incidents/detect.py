"""When did trouble begin, and is it over? Plain arithmetic on how many requests of a step showed a sign of trouble.

Cumulative sums of log-likelihood ratios (Page 1954): some collect evidence that the sign is seen more often than usual,
one that it is seen as usual again. Of the first there is one for each share of requests that would be trouble: nearly
all (a few requests of a rare operation tell), a quarter, a tenth (a part of a mixed operation's; that takes more
evidence). What one step of five seconds may add is capped, so that a hiccup, however many requests it hits, is no
incident: at least four steps must agree, at either end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STEP_NS = 5 * 10**9
#: Evidence that begins or ends a stretch, and what one step may add to it: four steps, at least.
ENOUGH, CAP = 10.0, 3.0
#: Evidence that begins one in which few requests show the sign: mild trouble looks more like chance.
ENOUGH_OF_FEW = 12.0
#: Requests with the sign, at least.
LEAST_HITS = 4
#: A sign that is never seen is taken to be seen in this share of requests, for lack of perfect knowledge.
FLOOR_RATIO = 0.01
#: From this usual share on, seeing the sign says nothing.
USUAL_LIMIT_RATIO = 0.6


@dataclass(frozen=True, slots=True)
class Step:
    """Requests that began within one step, and how many of them showed the sign."""

    from_ns: int
    requests: int
    hits: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps in which the sign was seen more often than usual. ``to_ns`` is None while it is ongoing."""

    from_ns: int
    noticed_ns: int
    to_ns: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it began and ended, and whether it showed the sign."""

    start_ns: int
    end_ns: int
    hit: bool


def usual_ratio(hits: int, requests: int) -> float:
    """The share of requests that usually show a sign, with room for what so few requests do not tell."""
    return max(FLOOR_RATIO, (hits + 1 + math.sqrt(hits + 1)) / (requests + 2))


def trouble_ratio(usual: float) -> float:
    """The share of requests that would be trouble: four times the usual one, and at least a quarter."""
    return min(0.95, max(0.25, 4 * usual))


def trouble_ratios(usual: float) -> tuple[tuple[float, float], ...]:
    """Shares of requests that would be trouble, and how much evidence each takes."""
    most = trouble_ratio(usual)
    few = max(0.1, 2.5 * usual)
    return (
        *(((few, ENOUGH_OF_FEW),) if few < most else ()),
        (most, ENOUGH),
        *(((0.8, ENOUGH),) if most < 0.8 else ()),
    )


def stretches(steps: Iterable[Step], usual: float, open_from_ns: int | None = None) -> list[Stretch]:
    """The stretches of trouble in steps that are given in order of time.

    ``usual`` is the usual share of requests with the sign. ``open_from_ns``: trouble is known to go on since then; what
    was before says nothing of whether it is over.
    """
    if usual > USUAL_LIMIT_RATIO:
        return []
    sums = [_Sum(usual, trouble, enough) for trouble, enough in trouble_ratios(usual)]
    found: list[Stretch] = []
    current = None if open_from_ns is None else _Open(open_from_ns, open_from_ns, usual, sums[0].trouble)
    for step in steps:
        if open_from_ns is not None and step.from_ns + STEP_NS <= open_from_ns:
            continue
        if current is not None:
            if current.is_over(step):
                found.append(Stretch(current.from_ns, current.noticed_ns, current.to_ns))
                current = None
            continue
        agree = [one for one in sums if one.takes(step)]
        if agree:
            began_ns = max(one.began_ns for one in agree)
            current = _Open(began_ns, step.from_ns + STEP_NS, usual, sums[0].trouble)
            for one in sums:
                one.forget()
    if current is not None:
        found.append(Stretch(current.from_ns, current.noticed_ns, None))
    return found


class _Sum:
    """Evidence that as large a share of requests as ``trouble`` shows the sign."""

    def __init__(self, usual: float, trouble: float, enough: float) -> None:
        self.trouble, self.began_ns = trouble, 0
        self._usual, self._enough = usual, enough
        self._evidence, self._hits = 0.0, 0

    def takes(self, step: Step) -> bool:
        """Take one more step into account; True when there is enough."""
        added = _capped(step, self._usual, self.trouble)
        if self._evidence + added <= 0:
            self.forget()
            return False
        if self._evidence == 0:
            self.began_ns = step.from_ns
        self._evidence, self._hits = self._evidence + added, self._hits + step.hits
        return self._evidence >= self._enough and self._hits >= LEAST_HITS

    def forget(self) -> None:
        """Begin anew."""
        self._evidence, self._hits = 0.0, 0


class _Open:
    """An ongoing stretch, and the evidence that it is over."""

    def __init__(self, from_ns: int, noticed_ns: int, usual: float, trouble: float) -> None:
        self.from_ns, self.noticed_ns, self.to_ns = from_ns, noticed_ns, noticed_ns
        self._usual, self._trouble = usual, trouble
        self._calm = 0.0
        self._requests = self._hits = 0

    def is_over(self, step: Step) -> bool:
        """Take one more step into account."""
        # Healthy requests are told apart from trouble as it is, not from the least that would have been trouble.
        seen = self._hits / self._requests if self._requests else self._trouble
        self._calm = max(0.0, self._calm - _capped(step, self._usual, min(0.95, max(self._trouble, seen))))
        if self._calm == 0.0:
            self._requests, self._hits = self._requests + step.requests, self._hits + step.hits
            if step.hits:
                self.to_ns = step.from_ns + STEP_NS
        return self._calm >= ENOUGH


def first_hit_ns(requests: Sequence[Seen], usual: float) -> int | None:
    """When the trouble began, from requests in order of start around that time: the start of its first request."""
    sums = _sums(requests, usual, requests[len(requests) // 2 :])
    if not sums:
        return None
    after = min(range(len(sums)), key=sums.__getitem__)  # the last moment before the evidence began to grow
    return next((one.start_ns for one in requests[after:] if one.hit), None)


def last_hit_ns(requests: Sequence[Seen], usual: float) -> int | None:
    """When the trouble was over, from requests in order of start around that time: the end of its last request."""
    sums = _sums(requests, usual, requests[: len(requests) // 2])
    if not sums:
        return None
    last = max(range(len(sums)), key=lambda place: (sums[place], place))
    return max((one.end_ns for one in requests[:last] if one.hit), default=None)


def _sums(requests: Sequence[Seen], usual: float, troubled: Sequence[Seen]) -> list[float]:
    """The evidence before each request, and after the last; ``troubled`` show how bad the trouble was."""
    if not requests:
        return []
    seen = sum(one.hit for one in troubled) / max(1, len(troubled))
    trouble, evidence, sums = min(0.95, max(trouble_ratio(usual), seen)), 0.0, [0.0]
    for one in requests:
        evidence += math.log(trouble / usual) if one.hit else math.log((1 - trouble) / (1 - usual))
        sums.append(evidence)
    return sums


def _capped(step: Step, usual: float, trouble: float) -> float:
    """How much more likely trouble is than the usual, given this step; the logarithm, capped."""
    evidence = step.hits * math.log(trouble / usual) + (step.requests - step.hits) * math.log(
        (1 - trouble) / (1 - usual)
    )
    return min(CAP, max(-CAP, evidence))
