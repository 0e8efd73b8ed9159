"""Which of the host's processes are told of: busy ones in no container, for a minute, ten at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline_agent.machine import Machine
from layerline_agent.readings import Entity
from layerline_agent.sensor import all_sensors
from layerline_agent.sensors import host_processes

from .conftest import HYBRID_ID, Clock

SECOND_NS = 10**9
NAME = "system.process.cpu.time"

#: A line of ``/proc/<pid>/stat`` as a real kernel showed it, without pid, name, user and system time and start.
STAT = "{} ({}) S 31349 31370 31370 0 -1 4194560 1063 2822 1 0 {} {} 0 1 20 0 1 0 {} 2322432 396 18446744073709551615\n"

Told = dict[tuple[str, str], list[tuple[int, int | float]]]


class Host:
    """A machine whose processes are ours, read by the agent's own entity."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock(100 * SECOND_NS)
        (root / "proc").mkdir()
        sensors = {"host_processes": all_sensors()["host_processes"]}
        self.entity = Entity.of("host", {}, 0, {}, sensors, Machine(str(root), tick_ns=10_000_000), self.clock)

    def process(self, pid: int, ticks: int, name: str = "backup", cgroup: str = "/", began: int = 800969) -> None:
        """A process that has used so many ticks of 10 ms, a third of them in the kernel."""
        directory = self.root / f"proc/{pid}"
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_text(STAT.format(pid, name, ticks - ticks // 3, ticks // 3, began))
        (directory / "cgroup").write_text(f"4:memory:{cgroup}\n0::{cgroup}\n")

    def end(self, pid: int) -> None:
        for file in (self.root / f"proc/{pid}").iterdir():
            file.unlink()
        (self.root / f"proc/{pid}").rmdir()

    def second(self) -> Told:
        """A second later: what is sent."""
        self.clock.now_ns += SECOND_NS
        self.entity.read("host_processes", full=True)
        told: Told = {}
        for series in self.entity.series:
            assert series.signal == NAME
            if series.points:
                told[tuple(value for _, value in series.dimensions)] = series.points  # type: ignore[index]
                series.points = []
        return told


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_busy_process(host: Host) -> None:
    """One that used 2 % of a core is told of, with the reading before, so that its first second is known too."""
    host.process(7, 50, "a (b) c")
    host.process(8, 50, "idle")
    assert host.second() == {}
    host.process(7, 52, "a (b) c")
    host.process(8, 51, "idle")
    now_ns = host.clock.now_ns
    assert host.second() == {("7", "a (b) c"): [(now_ns, 500_000_000), (now_ns + SECOND_NS, 520_000_000)]}


def test_it_is_told_of_for_a_minute(host: Host) -> None:
    """One that rests is told of for a minute after it was last busy, and then no more; nothing is kept of it."""
    host.process(7, 0)
    host.second()
    host.process(7, 90)
    told = [bool(host.second()) for _ in range(70)]
    assert told == [True] * 60 + [False] * 10
    assert list(host.entity.series) == []


def test_processes_in_containers_are_left_out(host: Host) -> None:
    """One in a container, or in a group below a container's, is the container's; a kernel thread is the host's."""
    groups = {7: f"/docker/{HYBRID_ID}", 8: f"/system.slice/docker-{HYBRID_ID}.scope/init", 9: "/", 10: "/user.slice"}
    for ticks in (0, 50):
        for pid, group in groups.items():
            host.process(pid, ticks, cgroup=group)
        told = host.second()
    assert {pid for pid, _ in told} == {"9", "10"}


def test_ten_at_most(host: Host) -> None:
    """Of more than ten the ten that used most are told of."""
    for round_ in range(2):
        for pid in range(100, 115):
            host.process(pid, round_ * (pid - 90))
        told = host.second()
    assert {int(pid) for pid, _ in told} == set(range(105, 115))


def test_a_pid_used_again(host: Host) -> None:
    """Another process under a pid that was seen before is not taken for the one before."""
    host.process(7, 0, "old")
    host.second()
    host.process(7, 90, "old")
    assert host.second()
    host.process(7, 5000, "new", began=900_000)
    assert host.second() == {}
    host.process(7, 5050, "new", began=900_000)
    assert [name for _, name in host.second()] == ["new"]


def test_one_that_ended(host: Host) -> None:
    """One that is gone costs nothing and is told of no more."""
    host.process(7, 0)
    host.second()
    host.process(7, 90)
    assert host.second()
    host.end(7)
    assert host.second() == {}
    assert list(host.entity.series) == []


def test_looks_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more processes than may be looked at each second, all have their turn, and busy ones every second."""
    monkeypatch.setattr(host_processes, "MOST_LOOKS", 4)
    looked: list[int] = []
    really = host_processes.Processes._look
    monkeypatch.setattr(
        host_processes.Processes, "_look", lambda self, pid, now_ns: (looked.append(pid), really(self, pid, now_ns))[1]
    )
    for pid in range(1, 11):
        host.process(pid, 0)
    for _ in range(3):
        host.second()
    assert set(looked) == set(range(1, 11))
    host.process(5, 2000)
    seconds = 0
    while not host.second():
        seconds += 1
        assert seconds < 4
    for ticks in (2100, 2200, 2300):
        looked.clear()
        host.process(5, ticks)
        assert [points[-1][1] for points in host.second().values()] == [ticks * 10_000_000]
        assert len(looked) <= 4
