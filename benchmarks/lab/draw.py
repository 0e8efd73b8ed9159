"""Which cases: drawn from the seed, every fault as often as the others, cases of one container together."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from benchmarks.lab.fault import Case, Container, Fault
from benchmarks.lab.folder import Planned
from benchmarks.lab.way import Way, balanced, parse


@dataclass(frozen=True, slots=True)
class Choice:
    """A fault and the ways it may be run in."""

    fault: Fault
    ways: Collection[Way]


def draw(choices: Sequence[Choice], count: int, seed: str) -> list[Case]:
    """``count`` cases. The same seed (hexadecimal) and choices give the same cases in the same order."""
    chance = random.Random(int(seed, 16))  # noqa: S311 - repeatable on purpose; nothing is kept secret with it
    order = list(choices)
    chance.shuffle(order)
    ways = [balanced(choice.ways, random.Random(f"{seed}/{choice.fault.name}/way")) for choice in order]  # noqa: S311
    cases = []
    for number, (choice, way) in enumerate(islice(cycle(zip(order, ways, strict=True)), count), start=1):
        own = random.Random(f"{seed}/{choice.fault.name}/{number}")  # noqa: S311 - idem
        cases.append(Case(number, choice.fault, next(way), choice.fault.draw(own)))
    return cases


def by_container(cases: Sequence[Case], seed: str) -> list[tuple[Container, list[Case]]]:
    """Cases grouped by the container they need; the order of groups, and inside each, is drawn."""
    groups: dict[Container, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.container, []).append(case)
    chance = random.Random(f"{seed}/order")  # noqa: S311 - idem
    ordered = list(groups.items())
    chance.shuffle(ordered)
    for _, group in ordered:
        chance.shuffle(group)
    return ordered


def planned(case: Case) -> Planned:
    """A case in words."""
    return Planned(case.number, case.fault.name, str(case.way), dict(case.parameters))


def recalled(faults: Mapping[str, Fault], one: Planned) -> Case:
    """The case that these words mean. ValueError if the catalogue no longer has its fault."""
    if one.fault not in faults:
        raise ValueError(f"case {one.number} of the plan is a {one.fault!r}, and there is no such fault any more")
    return Case(one.number, faults[one.fault], parse(one.way), one.parameters)
