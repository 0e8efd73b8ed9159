"""Sensors where machines differ from those that were captured: no limits, older kernels, files that are not there."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from layerline.signals import Kind, find
from layerline_agent.cgroups import Tree
from layerline_agent.machine import Machine
from layerline_agent.readings import Entity
from layerline_agent.sensor import all_sensors

from .conftest import HYBRID, HYBRID_ID, V2, V2_ID, V2_UNLIMITED_ID, Clock

Values = dict[tuple[str, ...], int | float]


def entity(root: Path, container_id: str = "", clock: Callable[[], int] = lambda: 1) -> Entity:
    """The container of this id below this root; the host where there is none."""
    machine = Machine(str(root), tick_ns=10_000_000)
    if not container_id:
        directories = {"proc": machine.path("proc"), "network": machine.path("proc/1/net")}
        return Entity.of("host", {}, 0, directories, all_sensors(), machine, clock)
    tree = Tree.of(machine)
    path = next(found.path for found in tree.walk() if found.id == container_id)
    return Entity.of("container", {}, 0, tree.directories(path), all_sensors(), machine, clock)


def read(root: Path, container_id: str = "") -> Values:
    """Everything that the sensors say: by signal and the values of its dimensions."""
    watched = entity(root, container_id)
    for sensor in all_sensors():
        watched.read(sensor, full=True)
    watched.close()
    return {
        (series.signal, *(value for _, value in series.dimensions)): series.value
        for series in watched.series
        if series.value is not None
    }


def test_hybrid_container_two_seconds_later() -> None:
    """The increases of two seconds are those of the captured files: half of 2.7 s throttled, 16.8 MB written."""
    first, second = read(HYBRID / "first", HYBRID_ID), read(HYBRID / "second", HYBRID_ID)
    rise = {key: second[key] - value for key, value in first.items()}
    assert rise["container.cpu.throttled",] == 808_084_512 - 183_037_752
    assert rise["container.cpu.time",] == 561_946_464 - 211_813_807
    assert rise["container.cpu.periods",] == 27
    assert rise["container.cpu.throttled_periods",] == 12
    assert rise["container.io.pressure", "some"] == 3_400_585_000
    assert rise["container.disk.io", "write", "vda"] == 35_721_216 - 18_911_232
    assert rise["container.cpu.limit",] == 0


def test_no_limit_is_absent() -> None:
    """A container without limits has no limit signal, and its throttled time is a true zero."""
    values = read(V2 / "first", V2_UNLIMITED_ID)
    assert not [key for key in values if key[0].endswith("limit")]
    assert values["container.cpu.throttled",] == 0
    assert values["container.memory.usage",] == 13_766_656


@pytest.mark.parametrize(
    ("file", "content", "signal"),
    [
        ("cpu/docker/{}/cpu.cfs_quota_us", "-1\n", "container.cpu.limit"),
        ("memory/docker/{}/memory.limit_in_bytes", "9223372036854771712\n", "container.memory.limit"),
        ("memory/docker/{}/memory.limit_in_bytes", "9223372036854710272\n", "container.memory.limit"),
        ("blkio/docker/{}/blkio.throttle.write_bps_device", "", "container.disk.limit"),
    ],
)
def test_no_limit_is_absent_in_v1(copied: Callable[[Path], Path], file: str, content: str, signal: str) -> None:
    """v1's ways to say "no limit" (-1, the largest number of the page size, an empty file) are all no limit."""
    root = copied(HYBRID / "first")
    (root / "sys/fs/cgroup" / file.format(HYBRID_ID)).write_text(content)
    assert not [key for key in read(root, HYBRID_ID) if key[0] == signal]


def test_io_stat_and_io_max_of_v2(copied: Callable[[Path], Path]) -> None:
    """v2 says bytes, operations and limits per device in one line each; discards and ``max`` are left out."""
    root = copied(V2 / "first")
    directory = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    (root / "proc/diskstats").write_text(" 254       0 vda 1 0 8 1 2 0 16 2 0 3 3\n")
    (directory / "io.stat").write_text("7:0 254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=77 dios=7\n259:3 \n")
    (directory / "io.max").write_text("254:0 rbps=max wbps=4194304 riops=100 wiops=max\n")
    values = read(root, V2_ID)
    assert {key: value for key, value in values.items() if key[0].startswith("container.disk")} == {
        ("container.disk.io", "read", "vda"): 4096,
        ("container.disk.io", "write", "vda"): 8192,
        ("container.disk.operations", "read", "vda"): 1,
        ("container.disk.operations", "write", "vda"): 2,
        ("container.disk.limit", "write", "vda"): 4_194_304,
        ("container.disk.operations.limit", "read", "vda"): 100,
    }


def test_memory_of_v2_counts_its_troubles(copied: Callable[[Path], Path]) -> None:
    """v2 counts hits of the limit and kills in ``memory.events``, and refaults of files and of anonymous memory."""
    root = copied(V2 / "first")
    directory = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 812\noom 3\noom_kill 2\noom_group_kill 0\n")
    (directory / "memory.stat").write_text(
        "anon 1\ninactive_file 0\nworkingset_refault_anon 5\nworkingset_refault_file 37\npgmajfault 6\n"
    )
    values = read(root, V2_ID)
    assert values["container.memory.limit_hits",] == 812
    assert values["container.memory.oom_kills",] == 2
    assert values["container.memory.refaults",] == 42
    assert values["container.memory.major_faults",] == 6


def test_older_kernels_count_less(copied: Callable[[Path], Path]) -> None:
    """Before Linux 5.9 refaults were one figure; a figure that the kernel does not give is absent, not zero."""
    root = copied(HYBRID / "first")
    directory = root / f"sys/fs/cgroup/memory/docker/{HYBRID_ID}"
    (directory / "memory.stat").write_text("cache 0\nworkingset_refault 1\ntotal_workingset_refault 9\n")
    (directory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    values = read(root, HYBRID_ID)
    assert values["container.memory.refaults",] == 9
    assert ("container.memory.major_faults",) not in values
    assert ("container.memory.oom_kills",) not in values
    assert ("container.memory.working_set",) not in values


@pytest.mark.parametrize(
    ("hits", "swap_hits", "swap_limit", "expected"),
    [
        ("12", "0", "134217728", 12),
        ("12", None, None, 12),  # swap is not accounted for
        ("0", "0", "134217728", 0),
        ("0", "700", "67108864", 700),  # an older kernel, both limits the same
        ("0", "0", "67108864", None),  # nothing happened, or this kernel does not count it
    ],
)
def test_hits_of_both_limits_of_v1(
    copied: Callable[[Path], Path], hits: str, swap_hits: str | None, swap_limit: str | None, expected: int | None
) -> None:
    """v1 counts at the limit of memory and at that of memory and swap; a zero that may be false is left out."""
    root = copied(HYBRID / "first")
    directory = root / f"sys/fs/cgroup/memory/docker/{HYBRID_ID}"
    for name, content in (("failcnt", hits), ("memsw.failcnt", swap_hits), ("memsw.limit_in_bytes", swap_limit)):
        (directory / f"memory.{name}").unlink()
        if content is not None:
            (directory / f"memory.{name}").write_text(f"{content}\n")
    assert read(root, HYBRID_ID).get(("container.memory.limit_hits",)) == expected


def test_partitions_are_left_out(copied: Callable[[Path], Path]) -> None:
    """A partition's figures are within its disk's: only whole disks are reported, NVMe, device mapper and RAID too."""
    root = copied(HYBRID / "first")
    names = [
        "sda",
        "sda1",
        "vdb",
        "vdb2",
        "nvme0n1",
        "nvme0n1p1",
        "mmcblk0",
        "mmcblk0p2",
        "dm-0",
        "md127",
        "loop3",
        "zram0",
    ]
    (root / "proc/diskstats").write_text("".join(f" 8 {n} {name} {'1 ' * 17}\n" for n, name in enumerate(names)))
    disks = {key[1] for key in read(root) if key[0] == "system.disk.io_time"}
    assert disks == {"sda", "vdb", "nvme0n1", "mmcblk0", "dm-0", "md127"}


def test_missing_pressure_reads_as_blind(copied: Callable[[Path], Path]) -> None:
    """Where the kernel has no pressure files nothing is said about pressure: not even a zero."""
    root = copied(V2 / "first")
    shutil.rmtree(root / "proc/pressure")
    for file in root.rglob("*.pressure"):
        file.unlink()
    for container_id in (V2_ID, ""):
        values = read(root, container_id)
        assert values
        assert not [key for key in values if "pressure" in key[0]]


def test_cpu_controller_off(copied: Callable[[Path], Path]) -> None:
    """Where the cpu controller is not enabled, v2 still has the usage; throttled time is then unknown, not zero."""
    root = copied(V2 / "first")
    stat = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope/cpu.stat"
    stat.write_text("usage_usec 10\nuser_usec 4\nsystem_usec 6\n")
    values = read(root, V2_ID)
    assert values["container.cpu.time",] == 10_000
    assert ("container.cpu.throttled",) not in values


@pytest.mark.parametrize("trouble", ["unreadable", "garbled"])
def test_trouble_costs_its_own_readings_only(
    copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """A file that cannot be read or understood costs its own readings: the sensor says so and reads the others."""
    root = copied(V2 / "first")
    stat = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope/cpu.stat"
    if trouble == "garbled":
        stat.write_text("usage_usec many\n")
    else:  # not by its mode: root may read everything
        really = os.open

        def refuse(path: str, flags: int) -> int:
            if path == str(stat):
                raise PermissionError(13, "Permission denied", path)
            return really(path, flags)

        monkeypatch.setattr("layerline_agent.files.os.open", refuse)
    watched = entity(root, V2_ID)
    for sensor in all_sensors():
        if sensor == "container_cpu":
            with pytest.raises((PermissionError, ValueError)):
                watched.read(sensor, full=True)
        else:
            watched.read(sensor, full=True)
    watched.close()
    read_signals = {series.signal for series in watched.series}
    assert "container.cpu.time" not in read_signals
    assert {"container.cpu.limit", "container.memory.limit", "container.io.pressure"} <= read_signals


@pytest.mark.parametrize(("root", "container_id"), [(HYBRID, HYBRID_ID), (V2, V2_ID), (HYBRID, ""), (V2, "")])
def test_every_signal_is_in_the_catalogue(root: Path, container_id: str) -> None:
    """What a sensor yields is in the catalogue: its entity, its dimensions, whole numbers for counters."""
    watched = entity(root / "first", container_id)
    for sensor in all_sensors():
        watched.read(sensor, full=True)
    watched.close()
    for series in watched.series:
        signal = find(series.signal)
        assert signal is not None, f"{series.signal} has no entry in instrument/layerline/signals.py"
        assert signal.entity == ("container" if container_id else "host")
        assert tuple(key for key, _ in series.dimensions) == signal.dimensions
        assert signal.kind is Kind.GAUGE or isinstance(series.value, int)
        assert series.value is not None
        assert math.isfinite(series.value)


def test_long_files_are_read_whole(copied: Callable[[Path], Path]) -> None:
    """A file longer than one read, such as ``/proc/stat`` of a large machine, is read to its end."""
    root = copied(V2 / "first")
    cpus = "".join(f"cpu{number} 1 2 3 4 5 6 7 8 9 10\n" for number in range(1024))
    (root / "proc/stat").write_text(f"cpu 1 2 3 4 5 6 7 8 9 10\n{cpus}intr {'0 ' * 9000}\n")
    assert read(root)["system.cpu.logical.count",] == 1024


def test_iowait_steps_back(copied: Callable[[Path], Path]) -> None:
    """The kernel lets iowait and steal fall by a tick: they stand still, and the host has not begun anew."""
    root = copied(V2 / "first")
    lines = (root / "proc/stat").read_text().splitlines()
    clock = Clock()
    host = entity(root, clock=clock)
    for iowait, steal in ((900_001, 5_001), (900_000, 5_000), (900_000, 5_000), (900_003, 5_001)):
        fields = lines[0].split()
        fields[5], fields[8] = str(iowait), str(steal)
        (root / "proc/stat").write_text("\n".join([" ".join(fields), *lines[1:]]) + "\n")
        clock.now_ns += 10**9
        host.read("host_cpu", full=True)
    found = {
        series.dimensions[0][1]: ([value // 10**7 for _, value in series.points], series.start_ns)
        for series in host.series
        if series.signal == "system.cpu.time"
    }
    assert found["iowait"] == ([900_001, 900_001, 900_001, 900_003], 0)
    assert found["steal"] == ([5_001] * 4, 0)
