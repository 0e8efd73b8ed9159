"""Readings of a real container, sent under a Collector's names, are in the store what the kernel says they are."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from live_server import serving

from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_agent.cgroups import Tree
from layerline_agent.machine import Machine
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import Limits, Service
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from live.collector import Collector

pytestmark = pytest.mark.docker

ENABLED = frozenset(
    {
        "container.cpu.throttling_data.throttled_time",
        "container.cpu.limit",
        "container.pids.count",
        "system.memory.limit",
    }
)


def kernel_ns(pid: int, container_id: str) -> dict[str, int]:
    """The kernel's own counters of a container: used and throttled time in ns."""
    machine = Machine()
    folders = Tree.of(machine).directories_of(machine, pid, container_id)
    if "cpuacct" in folders:
        throttled = stat(folders["cpu"])["throttled_time"]
        used = int(Path(folders["cpuacct"], "cpuacct.usage").read_text())
    else:
        told = stat(folders["unified"])
        throttled, used = told["throttled_usec"] * 1_000, told["usage_usec"] * 1_000
    return {"container.cpu.time": used, "container.cpu.throttled": throttled}


def stat(folder: str) -> dict[str, int]:
    lines = Path(folder, "cpu.stat").read_text().splitlines()
    return {key: int(value) for key, value in map(str.split, lines)}


def test_docker_stats_and_hostmetrics(docker_engine: docker.DockerClient, tmp_path: Path) -> None:  # noqa: F811
    """After a few exports the store has our signals, in ns and bytes, of the right container on the right host."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    cursor = correlator._store.cursor()

    def points(signal: str, entity: str) -> list[tuple[int, float]]:
        sql = (
            "SELECT time_ns, value FROM point JOIN series USING (series) WHERE signal = $signal AND entity_id = $entity"
        )
        return cursor.execute(f"{sql} ORDER BY time_ns", {"signal": signal, "entity": entity}).fetchall()

    try:
        with serving(correlator, ServerSettings()) as url, Containers(docker_engine) as place:
            limits = Limits(quota_ratio=0.2)
            container_id = place.start(Service("busy", ("-c", "while True: pass"), limits=limits)).id
            container = place.container("busy")
            container.reload()
            pid = container.attrs["State"]["Pid"]
            before = kernel_ns(pid, container_id)
            with Collector(url, {}, 0.2, ENABLED) as collector:
                until(lambda: len(points("container.cpu.throttled", container_id)) >= 5)
            after = kernel_ns(pid, container_id)
            assert not collector.problems

            for signal, first in before.items():
                values = [value for _, value in points(signal, container_id)]
                assert values == sorted(values)
                assert first <= values[0] < values[-1] <= after[signal], signal
            assert {value for _, value in points("container.cpu.limit", container_id)} == {0.2}
            assert 2**20 < points("container.memory.working_set", container_id)[-1][1] < 2**30
            assert points("container.pids", container_id)[-1][1] >= 1

            machine = socket.gethostname()
            (total_kib,) = (
                int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
            )
            assert points("system.memory.limit", machine)[-1][1] == total_kib * 1024
            hosts = "SELECT DISTINCT series.host FROM series WHERE entity_id IN ($container, $machine)"
            named: list[tuple[Any, ...]] = cursor.execute(
                hosts, {"container": container_id, "machine": machine}
            ).fetchall()
            assert named == [(machine,)], "the container is on the one machine that hostmetrics names"
            idle = cursor.execute(
                "SELECT sum(value) FROM (SELECT arg_max(value, time_ns) AS value FROM point JOIN series USING (series)"
                " WHERE signal = 'system.cpu.time' AND attributes['cpu.mode'] = 'idle' GROUP BY series)"
            ).fetchone()
            (ticks,) = (
                int(line.split()[4]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu ")
            )
            assert idle is not None
            assert 0 <= ticks * 10_000_000 - idle[0] < 600 * 10**9, "seconds of all CPUs, told in nanoseconds"
    finally:
        cursor.close()
        correlator.close()


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
