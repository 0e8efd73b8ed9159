"""Which cases the lab draws, and that every file of its folder is a fault that can be drawn."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.command import CASES, choose
from benchmarks.lab.draw import Choice, by_container, draw, planned, recalled
from benchmarks.lab.fault import Case, Kind
from benchmarks.lab.folder import Planned
from benchmarks.lab.score import CASES as ENOUGH
from benchmarks.lab.way import PERIODS_MS, THREADS

FAULTS = all_faults()
CHOICES = [Choice(fault, fault.ways) for fault in FAULTS.values()]


def test_the_same_seed_gives_the_same_cases() -> None:
    """A run can be repeated from its seed alone; another seed gives other cases."""

    def drawn(seed: str) -> list[Planned]:
        return [planned(case) for case in draw(CHOICES, 60, seed)]

    assert drawn("d2ce2f7a") == drawn("d2ce2f7a")
    assert drawn("d2ce2f7a") != drawn("d2ce2f7b")


def test_every_fault_is_drawn_equally_often() -> None:
    """No fault is left to chance: their counts differ by at most one."""
    cases = draw(CHOICES, 3 * len(FAULTS) + 1, "1")
    counts = {sum(case.fault.name == name for case in cases) for name in FAULTS}
    assert counts == {3, 4}


def test_the_full_run_has_every_way_of_running() -> None:
    """Every server, number of threads, choice of cores, period and place of a limit has cases; most have no cpuset."""
    cases = choose(None, quick=False, count=None, seed="5")
    assert len(cases) == CASES > ENOUGH
    parts = Counter(part for case in cases for part in case.way.parts)
    servers = {f"{server}-{threads}" for server, numbers in THREADS.items() for threads in numbers}
    assert set(parts) == servers | {"all", "one", "own", "parent"} | {f"{period}ms" for period in PERIODS_MS}
    assert parts["one"] * 3 < parts["all"]
    assert min(parts[part] for part in parts if part not in ("all", "one")) >= 10


def test_a_fault_has_only_ways_that_it_can_be_run_in() -> None:
    """A fault that sets a CPU limit has a period and a place for it, no other has; servers and cores are its own."""
    for case in draw(CHOICES, 4 * len(FAULTS), "6"):
        assert case.way in case.fault.ways
        assert (case.way.period_ms is not None) == (case.way.place is not None) == case.fault.limit
        assert case.way.server in case.fault.servers
        assert case.way.cores in case.fault.cores


def test_cases_of_a_container_are_together_and_none_is_lost() -> None:
    """Grouping by container keeps every case exactly once, beside those of its own container."""
    cases = draw(CHOICES, 150, "2")
    groups = by_container(cases, "2")
    assert sorted(case.number for _, group in groups for case in group) == list(range(1, 151))
    assert all(case.container == container for container, group in groups for case in group)
    assert len({container for container, _ in groups}) == len(groups)


def test_a_limit_of_the_container_needs_no_container_of_its_own() -> None:
    """Periods of a container's own limit share a container with cases that have none; a parent cgroup does not."""
    fault = FAULTS["cpu_quota"]
    containers = {case.container for case in (Case(1, fault, way, {}) for way in fault.ways)}
    assert len(containers) == len(fault.ways) / 3
    assert Case(1, FAULTS["slow_code"], FAULTS["slow_code"].ways[0], {}).container in containers


def test_a_plan_is_the_same_cases_later() -> None:
    """A case in words means the case; a fault that is no more is named."""
    for case in draw(CHOICES, 80, "7"):
        assert recalled(FAULTS, planned(case)) == case
    with pytest.raises(ValueError, match="case 3 of the plan is a 'gone', and there is no such fault any more"):
        recalled(FAULTS, Planned(3, "gone", "sync-1+all", {}))


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
        for way in fault.ways:
            container = Case(1, fault, way, {}).container
            healthy.setdefault((container, path.partition("?")[0]), set()).add(path)
    assert all(len(paths) == 1 for paths in healthy.values()), healthy


def test_who_accepts_another_cause_says_why() -> None:
    """A fault that accepts more than one cause, or not the nearest one, gives its reason beforehand."""
    for fault in FAULTS.values():
        for expected in fault.expected:
            assert expected.because or not (expected.also or fault.holder), fault.name
        assert not fault.holder or fault.traced, (
            f"{fault.name}: what holds the holder back only the kernel's trace says"
        )


def test_a_choice_of_ways_and_faults() -> None:
    """``WAY/FAULT`` takes the named faults in the ways that have every named part; the other parts are drawn."""
    (case,) = choose("gthread-16+20ms+parent/cpu_quota", quick=False, count=None, seed="1")
    assert case.fault.name == "cpu_quota"
    assert {"gthread-16", "20ms", "parent"} < set(case.way.parts)
    locks = choose("one/lock_holder_*,slow_code", quick=False, count=None, seed="1")
    assert {one.fault.name for one in locks} == {
        "lock_holder_contended",
        "lock_holder_crowded",
        "lock_holder_throttled",
        "slow_code",
    }
    assert {one.way.cores for one in locks if one.fault.name != "slow_code"} == {"one"}
    assert len(choose("sync-1/slow_code", quick=False, count=5, seed="1")) == 5
    everywhere = choose("parent/*", quick=False, count=None, seed="1")
    assert {one.fault.name for one in everywhere} == {fault.name for fault in FAULTS.values() if fault.limit}


def test_an_unknown_fault_is_refused_by_name() -> None:
    """A fault that does not exist is refused, with the names of those that do."""
    with pytest.raises(ValueError, match=r"no fault named 'nonsense', expected one of .*cpu_quota"):
        choose("nonsense", quick=False, count=1, seed="1")


def test_an_impossible_way_is_refused() -> None:
    """A way that a fault cannot be run in is refused, with the parts that it can have."""
    with pytest.raises(ValueError, match=r"cpu_quota is not run as 'uvicorn-1', expected some of .*gthread-16.*parent"):
        choose("uvicorn-1/cpu_quota", quick=False, count=1, seed="1")


def test_without_parent_cgroups_the_other_ways_are_left() -> None:
    """Where a cgroup of ours cannot be a parent, limits are the containers' own; asking for a parent is refused."""
    assert not [case for case in choose(None, False, None, "1", parents=False) if case.way.below_parent]
    with pytest.raises(ValueError, match="cpu_quota was asked for in a way that is not possible here"):
        choose("parent/cpu_quota", False, None, "1", parents=False)
