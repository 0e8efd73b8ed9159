"""The agent on this machine, with a real Docker Engine and a real limit."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from waiting import PATIENCE_S

from .conftest import Sink, attributes_of, points_of

pytestmark = pytest.mark.docker


Run = Callable[..., Container]


@pytest.fixture
def run(docker_engine: docker.DockerClient) -> Iterator[Run]:
    """Creates a container from the host's own programs, not yet started. Nothing is pulled: its root is empty."""
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    name = f"layerline-agent-test-{uuid.uuid4().hex[:12]}"
    docker_engine.api.import_image_from_data(empty.getvalue(), repository=name, tag="1")
    paths = [path for path in ("/usr", "/bin", "/lib", "/lib64") if os.path.exists(path)]
    made: list[Container] = []

    def create(command: list[str], **options: object) -> Container:
        volumes = {path: {"bind": path, "mode": "ro"} for path in paths}
        called = f"{name}-{len(made)}" if made else name
        made.append(docker_engine.containers.create(f"{name}:1", command, name=called, volumes=volumes, **options))
        return made[-1]

    try:
        yield create
    finally:
        for container in reversed(made):
            container.remove(force=True)
        docker_engine.images.remove(f"{name}:1")


@pytest.fixture
def busy(run: Run) -> Container:
    """A container that burns CPU under a quota so small that it is throttled on a busy machine too, not yet started."""
    return run(
        ["/bin/sh", "-c", "while :; do :; done"],
        cpu_period=100_000,
        cpu_quota=2_000,
        labels={"team": "shop"},
        environment={"PASSWORD": "hunter2"},
    )


@pytest.fixture
def agent(sink: Sink) -> Iterator[subprocess.Popen[str]]:
    """An agent of its own process that has sent its first readings."""
    process = subprocess.Popen(
        [sys.executable, "-m", "layerline.command", "agent", "--endpoint", sink.url, "--tag", "region:eu"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert sink.wait_for(lambda: bool(sink.metrics))
        yield process
    finally:
        process.kill()
        process.communicate()


def readings(sink: Sink, container_id: str, signal_name: str) -> list[tuple[int, int | float]]:
    """The points of a container's signal in the order in which they were sent: time and value."""
    return [
        (point.time_unix_nano, getattr(point, point.WhichOneof("value") or ""))
        for request in sink.metrics
        for sent in request.resource_metrics
        if attributes_of(sent.resource).get("container.id") == container_id
        for metric in sent.scope_metrics[0].metrics
        if metric.name == signal_name
        for point in points_of(metric)
    ]


def events(sink: Sink, container_id: str) -> dict[str, tuple[dict[str, object], dict[str, object]]]:
    """What happened to a container, in order: by event, the attributes of the event and of its resource."""
    return {
        sent.scope_logs[0].log_records[0].event_name: (
            attributes_of(sent.scope_logs[0].log_records[0]),
            attributes_of(sent.resource),
        )
        for request in sink.logs
        for sent in request.resource_logs
        if attributes_of(sent.resource).get("container.id") == container_id
    }


@pytest.mark.alone
def test_a_throttled_container(sink: Sink, busy: Container, agent: subprocess.Popen[str]) -> None:
    """A container that wants a core and may have a fiftieth is seen from start to death, throttled all the while."""
    container_id = str(busy.id)
    busy.start()
    assert sink.wait_for(lambda: len(readings(sink, container_id, "container.cpu.throttled")) > 15)
    busy.kill()
    assert sink.wait_for(lambda: "container.die" in events(sink, container_id))
    agent.send_signal(signal.SIGTERM)
    _, said = agent.communicate(timeout=PATIENCE_S)
    assert agent.returncode == 0
    assert "Docker" in said

    throttled = readings(sink, container_id, "container.cpu.throttled")
    assert throttled == sorted(throttled)
    assert throttled[-1][1] > throttled[0][1]
    finest_ns = min(after - before for (before, _), (after, _) in pairwise(throttled))
    assert finest_ns < 10**9, "a stall counter that moves is read several times a second"
    seconds = readings(sink, container_id, "container.cpu.time")
    used = (seconds[-1][1] - seconds[0][1]) / ((seconds[-1][0] - seconds[0][0]) / 1e9)
    assert 0 < used < 0.04
    assert {value for _, value in readings(sink, container_id, "container.cpu.limit")} == {0.02}

    happened = events(sink, container_id)
    assert list(happened) == ["container.start", "container.kill", "container.die"]
    died, who = happened["container.die"]
    assert died == {"process.exit.code": 137}
    assert who["container.id"] == container_id
    assert who["container.name"] == busy.name
    assert who["container.image.name"] == busy.name
    assert who["container.label.team"] == "shop"
    assert who["cloud.region"] == "eu"
    assert not [received for received in sink.received if b"hunter2" in received.body], "the environment is never read"


def test_limits_changed(sink: Sink, busy: Container, agent: subprocess.Popen[str]) -> None:
    """A quota changed while the container runs is told as an event, and is the limit from then on."""
    container_id = str(busy.id)
    busy.start()
    assert sink.wait_for(lambda: bool(readings(sink, container_id, "container.cpu.limit")))
    busy.update(cpu_period=100_000, cpu_quota=50_000)
    assert sink.wait_for(lambda: "container.update" in events(sink, container_id))
    seen = len(sink.metrics)
    assert sink.wait_for(lambda: len(sink.metrics) > seen + 1)
    assert readings(sink, container_id, "container.cpu.limit")[-1][1] == 0.5


def test_cgroups_out_of_reach(sink: Sink, run: Run, tmp_path: Path) -> None:
    """Where the agent sees no cgroup, Docker is asked what a container used, and the readings say so."""
    container = run(["/bin/sh", "-c", "while :; do :; done"], cpu_period=100_000, cpu_quota=10_000)
    container.start()
    container_id = str(container.id)
    process = subprocess.Popen(
        [sys.executable, "-m", "layerline.command", "agent", "--endpoint", sink.url],
        env={**os.environ, "LAYERLINE_HOST_ROOT": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert sink.wait_for(lambda: len(readings(sink, container_id, "container.cpu.time")) > 2)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert "the Docker stats API is asked about it" in said
    used = [value for _, value in readings(sink, container_id, "container.cpu.time")]
    assert used == sorted(used)
    assert used[-1] > used[0]
    sources = {
        attributes_of(sent.resource).get("layerline.reading.source")
        for request in sink.metrics
        for sent in request.resource_metrics
        if attributes_of(sent.resource).get("container.id") == container_id
    }
    assert sources == {"docker_stats"}


#: A shell whose child takes memory until the kernel ends it; the shell itself lives on.
TAKES_MEMORY = "sleep 1; /bin/sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'; while :; do sleep 1; done"


@pytest.mark.alone
def test_a_child_is_killed_for_want_of_memory(sink: Sink, run: Run, agent: subprocess.Popen[str]) -> None:
    """A child that the kernel kills is an event with the Engine's time, between two readings; nothing died."""
    container = run(["/bin/sh", "-c", TAKES_MEMORY], mem_limit="48m")
    container_id = str(container.id)
    container.start()
    began_ns = time.time_ns()
    assert sink.wait_for(lambda: "container.oom" in events(sink, container_id))

    def kills() -> list[tuple[int, int | float]]:
        return readings(sink, container_id, "container.memory.oom_kills")

    assert sink.wait_for(lambda: bool(kills()) and kills()[-1][1] == 1)
    assert "container.die" not in events(sink, container_id)
    before_ns = max(time_ns for time_ns, value in kills() if value == 0)
    after_ns = min(time_ns for time_ns, value in kills() if value == 1)
    assert after_ns - before_ns < 3 * 10**9, "it is known to a tick, or a few on a busy machine"
    happened_ns = next(
        record.time_unix_nano
        for request in sink.logs
        for sent in request.resource_logs
        for record in sent.scope_logs[0].log_records
        if record.event_name == "container.oom"
    )
    assert began_ns < happened_ns < time.time_ns()
    assert abs(happened_ns - after_ns) < 2 * 10**9


def test_other_cpus(sink: Sink, run: Run, agent: subprocess.Popen[str]) -> None:
    """The CPUs a container may use are on its resource, and change with ``docker update``; so is its own network."""
    container = run(["/bin/sh", "-c", "while :; do sleep 1; done"], cpuset_cpus="0")
    container_id = str(container.id)
    container.start()

    def cpus() -> list[object]:
        return [
            attributes_of(sent.resource).get("layerline.container.cpuset")
            for request in sink.metrics
            for sent in request.resource_metrics
            if attributes_of(sent.resource).get("container.id") == container_id
        ]

    assert sink.wait_for(lambda: bool(cpus()))
    assert set(cpus()) == {"0"}
    container.update(cpuset_cpus="0-1" if (os.cpu_count() or 1) > 1 else "0")
    expected = "0-1" if (os.cpu_count() or 1) > 1 else "0"
    assert sink.wait_for(lambda: cpus()[-1] == expected)
    assert readings(sink, container_id, "container.network.io"), "it has a network of its own"
    assert readings(sink, container_id, "container.network.tcp.retransmits")


def test_a_busy_process_of_the_host(sink: Sink, agent: subprocess.Popen[str]) -> None:
    """A process in no container that burns a core is told of by pid and name, with the time it used."""
    burning = subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
    try:

        def used() -> list[tuple[int, int | float]]:
            return [
                (point.time_unix_nano, point.as_int)
                for request in sink.metrics
                for sent in request.resource_metrics
                for metric in sent.scope_metrics[0].metrics
                if metric.name == "system.process.cpu.time"
                for point in points_of(metric)
                if attributes_of(point)["process.pid"] == str(burning.pid)
            ]

        assert sink.wait_for(lambda: len(used()) > 3 and used()[-1][1] > used()[0][1])
    finally:
        burning.kill()
        burning.wait()
    (from_ns, first), (to_ns, last) = used()[0], used()[-1]
    assert 0 < (last - first) / (to_ns - from_ns) < 1.1, "of a core, shared with whatever else runs here"


@pytest.fixture
def cgroupfs(docker_engine: docker.DockerClient) -> None:
    """With the systemd driver a cgroup parent must be a slice of systemd's."""
    if (driver := docker_engine.info()["CgroupDriver"]) != "cgroupfs":
        pytest.skip(f"cgroup parents can only be chosen with Docker's driver cgroupfs, and it is {driver}")


@pytest.fixture
def parent(cgroupfs: None) -> Iterator[str]:
    """A cgroup with a quota of 0.02 CPU that containers can be put into (``--cgroup-parent``), by its name."""
    name = f"layerline-test-{uuid.uuid4().hex[:12]}"
    folder = Path("/sys/fs/cgroup/cpu", name)
    try:
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text("2000")
    except OSError as problem:
        pytest.skip(f"cannot make a cgroup with a quota in v1's cpu hierarchy: {problem}")
    yield name
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        if (hierarchy / name).is_dir():
            (hierarchy / name).rmdir()


def test_a_quota_on_the_parent(parent: str, sink: Sink, run: Run, agent: subprocess.Popen[str]) -> None:
    """A container without a limit, in a cgroup with one: the cgroup's limit and what it withheld are told of it."""
    container = run(["/bin/sh", "-c", "while :; do :; done"], cgroup_parent=f"/{parent}")
    container_id = str(container.id)
    try:
        container.start()
        assert sink.wait_for(lambda: len(readings(sink, container_id, "container.ancestor.cpu.throttled")) > 10)
    finally:
        container.kill()
        container.wait()
    throttled = readings(sink, container_id, "container.ancestor.cpu.throttled")
    assert throttled[-1][1] > throttled[0][1]
    assert {value for _, value in readings(sink, container_id, "container.ancestor.cpu.limit")} == {0.02}
    assert not readings(sink, container_id, "container.cpu.limit")
    assert readings(sink, container_id, "container.cpu.throttled_periods")[-1][1] == 0
    paths = {
        attributes_of(point)["layerline.cgroup"]
        for request in sink.metrics
        for sent in request.resource_metrics
        for metric in sent.scope_metrics[0].metrics
        if metric.name == "container.ancestor.cpu.throttled"
        for point in points_of(metric)
    }
    assert f"/{parent}" in paths
    if Path("/sys/fs/cgroup/cpu/cpu.stat.local").exists():  # Linux 6.5
        assert readings(sink, container_id, "container.cpu.throttled")[-1][1] > 0


@pytest.mark.usefixtures("cgroupfs")
def test_a_container_inside_a_container(sink: Sink, run: Run, agent: subprocess.Popen[str]) -> None:
    """One whose cgroup is within another's says which: what the outer one used contains what it used."""
    outer = run(["/bin/sh", "-c", "while :; do sleep 1; done"], cpu_period=100_000, cpu_quota=50_000)
    outer.start()
    pid = docker_pid(outer)
    path = next(
        line.split(":", 2)[2]
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
        if str(outer.id) in line
    )
    inner = run(["/bin/sh", "-c", "while :; do sleep 1; done"], cgroup_parent=f"{path}/nested")
    inner.start()
    inner_id = str(inner.id)
    assert sink.wait_for(lambda: bool(readings(sink, inner_id, "container.cpu.time")))
    found = [
        attributes_of(sent.resource)
        for request in sink.metrics
        for sent in request.resource_metrics
        if attributes_of(sent.resource).get("container.id") == inner_id
    ]
    assert found[-1]["layerline.container.parent"] == outer.id
    assert found[-1]["layerline.cgroup.path"] == f"{path}/nested/{inner_id}"
    assert {value for _, value in readings(sink, inner_id, "container.ancestor.cpu.limit")} == {0.5}
    inner.kill()
    inner.wait()


def docker_pid(container: Container) -> int:
    """Its first process."""
    container.reload()
    return int(container.attrs["State"]["Pid"])
