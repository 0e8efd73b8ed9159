"""The number of CPUs that a process may use, while somebody changes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerline.affinity import Affinity
from layerline.attributes import CPUS
from layerline.cgroup import Cgroup
from layerline.meters import Meters

MS, SECOND = 1_000_000, 1_000_000_000


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This thread may use one CPU only, until the end."""
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("this machine gives the tests one CPU: there is nothing to take away")
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_a_change_is_told_and_so_is_its_end() -> None:
    """It says nothing while all is as at the start, the new number afterwards: at once in a long span, else later."""
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("this machine gives the tests one CPU: there is nothing to take away")
    affinity = Affinity()
    assert affinity.changed(SECOND, SECOND) is None
    os.sched_setaffinity(0, {min(before)})
    try:
        assert affinity.changed(SECOND + MS, SECOND) is None, "asked again within a second"
        assert affinity.changed(SECOND + 60 * MS, SECOND + 10 * MS) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert affinity.changed(3 * SECOND, 3 * SECOND) is None


def test_entry_spans_carry_the_number_only_after_a_change(tmp_path: Path, one_cpu: None) -> None:
    """What the meters of a request say has the new number; a process that started with it says nothing."""
    cgroup = Cgroup({}, [], tmp_path)
    meters = Meters(cgroup, contained=False)
    assert CPUS not in dict(meters.gained(meters.begin(SECOND), 2 * SECOND))
    meters._affinity = Affinity(at_start=2)
    assert dict(meters.gained(meters.begin(SECOND), 4 * SECOND))[CPUS] == 1
