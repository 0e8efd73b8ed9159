"""Which cases the lab draws, and that every file of its folder is a fault that can be drawn."""

from __future__ import annotations

import random

import pytest

from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.command import choose
from benchmarks.lab.draw import by_variant, draw
from benchmarks.lab.fault import Kind

FAULTS = all_faults()


def test_the_same_seed_gives_the_same_cases() -> None:
    """A run can be repeated from its seed alone; another seed gives other cases."""

    def drawn(seed: str) -> list[tuple[str, dict[str, int]]]:
        return [(case.fault.name, dict(case.parameters)) for case in draw(list(FAULTS.values()), 60, seed)]

    assert drawn("d2ce2f7a") == drawn("d2ce2f7a")
    assert drawn("d2ce2f7a") != drawn("d2ce2f7b")


def test_every_fault_is_drawn_equally_often() -> None:
    """No fault is left to chance: their counts differ by at most one."""
    cases = draw(list(FAULTS.values()), 3 * len(FAULTS) + 1, "1")
    counts = {sum(case.fault.name == name for case in cases) for name in FAULTS}
    assert counts == {3, 4}


def test_cases_of_a_container_are_together_and_none_is_lost() -> None:
    """Grouping by container keeps every case exactly once, beside those of its own container."""
    cases = draw(list(FAULTS.values()), 100, "2")
    groups = by_variant(cases, "2")
    assert sorted(case.number for _, group in groups for case in group) == list(range(1, 101))
    assert all(case.fault.variant == variant for variant, group in groups for case in group)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_operation_with_and_without(name: str) -> None:
    """Healthy and faulty requests have the same route, or there would be no usual; each fault says what to expect."""
    fault = FAULTS[name]
    parameters = fault.draw(random.Random(3))  # noqa: S311 - repeatable on purpose
    healthy, faulty = fault.healthy(parameters), fault.faulty(parameters)
    assert healthy.partition("?")[0] == faulty.partition("?")[0]
    assert bool(fault.expected) == (fault.kind is not Kind.NONE)
    assert sum(expected.constant is None for expected in fault.expected) <= 1
    assert all(expected.constant is None or expected.constant in parameters for expected in fault.expected)


def test_operations_have_one_healthy_request() -> None:
    """Faults that share a route in one container agree on its healthy request: it has one usual."""
    chance = random.Random(4)  # noqa: S311 - idem
    healthy: dict[tuple[object, str], set[str]] = {}
    for fault in FAULTS.values():
        path = fault.healthy(fault.draw(chance))
        healthy.setdefault((fault.variant, path.partition("?")[0]), set()).add(path)
    assert all(len(paths) == 1 for paths in healthy.values()), healthy


def test_an_unknown_fault_is_refused_by_name() -> None:
    """Who asks for a fault that there is not is told its name and what there is."""
    with pytest.raises(ValueError, match=r"no fault named 'nonsense', expected one of .*cpu_quota"):
        choose("nonsense", quick=False, count=1, seed="1")
