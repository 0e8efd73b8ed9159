"""One fault after another without healthy time between: where the first was over, and since when the next has shown.

Plain arithmetic on when each sign was seen too often; whether the causes really led is for the verdicts to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from layerline_correlator.incidents.detect import Stretch
from layerline_correlator.incidents.signs import Lasted, Sign

#: A cause that begins within this time after another may have taken over.
NEAR_NS = 60 * 10**9
#: It has when it outlives the other by so much; a sign that returns sooner was never away.
OUTLIVES_NS = NEAR_NS


@dataclass(frozen=True, slots=True)
class Takeover:
    """``over`` was seen in [from_ns, over_ns), ``began`` in [began_ns, to_ns); they may overlap a little."""

    over: Sign
    from_ns: int
    over_ns: int
    began: Sign
    began_ns: int
    to_ns: int


def takeovers(lasted: Iterable[Lasted], until_ns: int) -> list[Takeover]:
    """The possible ones among the causes of one incident, the earliest first.

    A cause that is over, and another that began later and outlived it: not long after it was over, and so late that
    they shared less than half of the time of either.
    """
    causes = [one for one in joined(lasted) if one[0].kind == "cause"]
    found = []
    for over, first in causes:
        for began, second in causes:
            if over == began or first.to_ns is None or not first.from_ns < second.from_ns <= first.to_ns + NEAR_NS:
                continue
            to_ns = until_ns if second.to_ns is None else second.to_ns
            shared_ns = max(0, first.to_ns - second.from_ns)
            shorter_ns = min(first.to_ns - first.from_ns, to_ns - second.from_ns)
            if to_ns - first.to_ns >= OUTLIVES_NS and 2 * shared_ns < shorter_ns:
                found.append(Takeover(over, first.from_ns, first.to_ns, began, second.from_ns, to_ns))
    return sorted(found, key=lambda one: (one.over_ns, one.began_ns, one.over, one.began))


def joined(lasted: Iterable[Lasted]) -> list[Lasted]:
    """Of each sign, stretches that are no further apart than ``NEAR_NS`` as one; all in order of start."""
    by_sign: dict[Sign, list[Stretch]] = defaultdict(list)
    for sign, stretch in sorted(lasted, key=lambda one: (one[1].from_ns, one[0])):
        known = by_sign[sign]
        if known and (known[-1].to_ns is None or stretch.from_ns <= known[-1].to_ns + NEAR_NS):
            ends = (known[-1].to_ns, stretch.to_ns)
            known[-1] = replace(known[-1], to_ns=None if None in ends else max(end for end in ends if end is not None))
        else:
            known.append(stretch)
    found = [(sign, stretch) for sign, stretches in by_sign.items() for stretch in stretches]
    return sorted(found, key=lambda one: (one[1].from_ns, one[0]))


def divided(lasted: Sequence[Lasted], over_ns: int, began_ns: int) -> tuple[list[Lasted], list[Lasted]]:
    """The stretches of one trouble until ``over_ns`` and since ``began_ns``; an ongoing one is on both sides."""
    before, after = [], []
    for sign, stretch in lasted:
        if stretch.from_ns < min(over_ns, began_ns):
            to_ns = over_ns if stretch.to_ns is None else min(stretch.to_ns, over_ns)
            before.append((sign, replace(stretch, to_ns=to_ns)))
        if stretch.to_ns is None or stretch.to_ns > over_ns:
            from_ns = max(stretch.from_ns, began_ns)
            if stretch.to_ns is None or stretch.to_ns > from_ns:
                after.append((sign, replace(stretch, from_ns=from_ns, noticed_ns=max(stretch.noticed_ns, from_ns))))
    return before, after
