"""The fault lab in small, for real: one case per fault, and what came of it."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from benchmarks.lab import command
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


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_the_quick_lab(docker_engine: docker.DockerClient, tmp_path: Path) -> None:  # noqa: F811 - that fixture
    """Every case runs to its end, most first culprits are right, and healthy requests are not blamed on anybody."""
    faults = all_faults()
    assert faults.keys() >= DONE_ELSEWHERE
    only = ",".join(name for name, fault in faults.items() if fault.quick and name not in DONE_ELSEWHERE)
    asked = ["--quick", "--only", only, "--keep", str(tmp_path / "run"), "--seed", "1ab1ab1a"]
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
