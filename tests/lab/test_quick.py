"""The fault lab in small, for real: one case per fault, and what came of it."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from benchmarks.lab import command, intervals
from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.folder import Folder
from benchmarks.lab.score import summarise
from docker_engine import docker_engine  # noqa: F401 - a fixture

#: One case each is no measurement of how right verdicts are (``make lab`` is); that most are wrong would be a fault.
MOST = 0.8
#: What ``tests/live`` does for real already, with ten requests each and compared in milliseconds.
DONE_ELSEWHERE = {
    "cpu_quota",
    "neighbour",
    "write_limit",
    "slow_dependency",
    "slow_code",
    "slow_code_inside_quota",
    "crowded",
    "asleep_while_sibling_writes",
}
#: The same causes once more, of other work or with another fault at once: how right that is, ``make lab`` says.
MORE_OF_THE_SAME = {
    "always_slow",
    "asyncio_slow_code",
    "cpu_quota_bursty",
    "honest_cpu",
    "quota_and_dependency",
    "quota_many_clients",
    "slow_code_and_dependency",
}
#: How the others are run: each way that is named is a container, whose start and usual cost more than a case.
WAYS = {
    "gthread-4+all": ("blocked", "cold_start", "gc_storm", "nothing", "paused", "pool_exhausted", "too_few_workers"),
    "flask-16+all": (
        *("cpu_quota_threads", "gil_hogged", "gil_holder_throttled", "lock_held", "lock_holder_throttled"),
    ),
    "uvicorn-1+all": ("asyncio_loop_blocked", "asyncio_loop_throttled"),
    "sync-1+all": ("memory_limit", "read_limit"),
}


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_the_quick_lab(
    docker_engine: docker.DockerClient,  # noqa: F811 - that fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every case runs to its end, most first culprits are right, and healthy requests are not blamed on anybody."""
    monkeypatch.setattr(intervals, "INTERVALS_NS", (10**9,))  # that it works, not how ranges grow with the interval
    faults = {name for name, fault in all_faults().items() if fault.quick}
    run = {name for names in WAYS.values() for name in names}
    assert run | DONE_ELSEWHERE | MORE_OF_THE_SAME == faults, "each quick fault of the lab is in one of these lists"
    only = ",".join(f"{way}/{name}" for way, names in WAYS.items() for name in names)
    asked = ["--quick", "--only", only, "--keep", str(tmp_path / "run"), "--seed", "1ab1ab1d"]
    assert command.main(asked) == 0
    records = Folder(tmp_path / "run").records()
    failed = [f"{record.fault}: {record.failure}" for record in records if record.failure]
    assert not failed, failed
    summary = summarise(records)
    faulty = [one for one in summary.scores if one.record.truths]
    wrong = [f"{one.record.fault}: {one.reason}" for one in faulty if not one.right]
    assert len(faulty) >= 8, f"only {len(faulty)} cases were not disturbed by other work on this machine"
    assert len(wrong) <= (1 - MOST) * len(faulty), wrong
    assert not [one.record.fault for one in summary.scores if one.false_blame]
