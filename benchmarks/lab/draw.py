"""Which cases: drawn from the seed, every fault as often as the others, cases of one container together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle, islice

from benchmarks.lab.fault import Case, Fault, Variant


def draw(faults: Sequence[Fault], count: int, seed: str) -> list[Case]:
    """``count`` cases. The same seed (hexadecimal) and faults give the same cases in the same order."""
    cases = []
    chance = random.Random(int(seed, 16))  # noqa: S311 - repeatable on purpose; nothing is kept secret with it
    order = list(faults)
    chance.shuffle(order)
    for number, fault in enumerate(islice(cycle(order), count), start=1):
        own = random.Random(f"{seed}/{fault.name}/{number}")  # noqa: S311 - idem
        cases.append(Case(number, fault, fault.draw(own)))
    return cases


def by_variant(cases: Sequence[Case], seed: str) -> list[tuple[Variant, list[Case]]]:
    """Cases grouped by the container they need; the order of groups, and inside each, is drawn."""
    groups: dict[Variant, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.fault.variant, []).append(case)
    chance = random.Random(f"{seed}/order")  # noqa: S311 - idem
    ordered = list(groups.items())
    chance.shuffle(ordered)
    for _, group in ordered:
        chance.shuffle(group)
    return ordered
