"""Limits above a container: they are read once, sent with each container below, and only while they are set."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline.container import in_path
from layerline_agent.ancestors import Ancestors
from layerline_agent.cgroups import Tree
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.readings import Entity
from layerline_agent.sensor import all_sensors

from .conftest import HYBRID, HYBRID_ID, V2, V2_ID, Clock

ONE, TWO = "a1" * 32, "b2" * 32
POD = "/kubepods/burstable/pod1"
MS = 1_000_000

Found = dict[tuple[str, ...], list[int | float]]


def write(folder: Path, **files: str) -> None:
    """Files of a cgroup; ``__`` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


class Watched:
    """Containers below a made-up tree, whose cgroups above are read."""

    def __init__(self, tree: Tree, clock: Clock) -> None:
        self.tree, self.clock = tree, clock
        self.machine = Machine("/nowhere")
        self.ancestors = Ancestors(tree, all_sensors(), self.machine, clock)

    def container(self, path: str) -> Entity:
        entity = Entity({}, 0)
        self.ancestors.join(entity, self.tree.directories(path))
        return entity

    def read(self, full: bool = True) -> None:
        self.clock.now_ns += 200 * MS
        for name, sensor in all_sensors().items():
            if sensor.above or sensor.above_v1:
                self.ancestors.read(name, full)


def sent(entity: Entity) -> Found:
    """What waits to be sent, and does not wait any more: by signal without its beginning, path and the like."""
    found: Found = {}
    for series in entity.series:
        if series.points:
            key = (series.signal.removeprefix("container.ancestor."), *(value for _, value in series.dimensions))
            found[key] = [value for _, value in series.points]
            series.points = []
    return found


@pytest.fixture
def v2(tmp_path: Path, clock: Clock) -> Watched:
    for container in (ONE, TWO):
        (tmp_path / POD.strip("/") / container).mkdir(parents=True)
    return Watched(Tree({"unified": ("/", str(tmp_path))}), clock)


def test_what_is_above(v2: Watched) -> None:
    """The cgroups between a container and the root of the tree, nearest first, without either."""
    directories = v2.tree.directories(f"{POD}/{ONE}")
    assert v2.tree.paths(directories) == {"unified": f"{POD}/{ONE}"}
    assert list(v2.tree.above(directories)) == [POD, "/kubepods/burstable", "/kubepods"]
    assert v2.tree.above(v2.tree.directories("/kubepods")) == {}
    assert v2.tree.above({}) == {}


def test_what_is_above_in_a_captured_machine() -> None:
    """On a hybrid machine a cgroup above is one for all controllers; where its path differs, it is another one."""
    tree = Tree.of(Machine(str(HYBRID / "first")))
    above = tree.above(tree.directories(f"/docker/{HYBRID_ID}"))
    assert list(above) == ["/docker"]
    assert above["/docker"]["cpu"] == f"{HYBRID}/first/sys/fs/cgroup/cpu/docker"
    tree = Tree.of(Machine(str(V2 / "first")))
    assert list(tree.above(tree.directories(f"/system.slice/docker-{V2_ID}.scope"))) == ["/system.slice"]


def test_what_is_above_a_part_that_is_mounted(tmp_path: Path) -> None:
    """Where only a part of the tree is mounted, its top is an ordinary cgroup, and what is above it out of sight."""
    (tmp_path / "pod1" / ONE).mkdir(parents=True)
    tree = Tree({"unified": ("/kubepods", str(tmp_path))})
    assert list(tree.above(tree.directories(f"/kubepods/pod1/{ONE}"))) == ["/kubepods/pod1", "/kubepods"]


def test_a_limit_of_a_pod(v2: Watched, tmp_path: Path) -> None:
    """It is told of each container in the pod, with the pod's path; cgroups above without a limit say nothing."""
    pod = tmp_path / POD.strip("/")
    write(pod, cpu__stat="usage_usec 9\nnr_periods 7\nnr_throttled 5\nthrottled_usec 300\n", cpu__max="50000 100000\n")
    write(pod, memory__current="4096\n", memory__max="8192\n", memory__events__local="low 0\nhigh 0\nmax 3\noom 0\n")
    write(pod, io__stat="254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n", io__max="254:0 wbps=1024\n")
    write(pod.parent, cpu__stat="usage_usec 9\nthrottled_usec 0\n", cpu__max="max 100000\n", memory__max="max\n")
    one, two = v2.container(f"{POD}/{ONE}"), v2.container(f"{POD}/{TWO}")
    v2.read()
    expected: Found = {
        ("cpu.limit", POD): [0.5],
        ("cpu.time", POD): [9_000],
        ("cpu.periods", POD): [7],
        ("cpu.throttled_periods", POD): [5],
        ("cpu.throttled", POD): [300_000],
        ("memory.limit", POD): [8192],
        ("memory.usage", POD): [4096],
        ("memory.limit_hits", POD): [3],
        ("disk.limit", POD, "write", "254:0"): [1024],
        ("disk.io", POD, "read", "254:0"): [1],
        ("disk.io", POD, "write", "254:0"): [2],
        ("disk.operations", POD, "read", "254:0"): [3],
        ("disk.operations", POD, "write", "254:0"): [4],
    }
    assert sent(one) == expected
    assert sent(two) == expected


def test_a_soft_limit_of_a_pod(v2: Watched, tmp_path: Path) -> None:
    """``memory.high`` takes pages back as ``memory.max`` does: the lower is the limit, and hits of either count."""
    pod = tmp_path / POD.strip("/")
    events = "low 0\nhigh 40\nmax 3\noom 0\n"
    write(pod, memory__current="4096\n", memory__max="max\n", memory__high="6144\n", memory__events__local=events)
    one = v2.container(f"{POD}/{ONE}")
    v2.read()
    assert sent(one) == {
        ("memory.limit", POD): [6144],
        ("memory.usage", POD): [4096],
        ("memory.limit_hits", POD): [43],
    }


def test_v1_controllers(tmp_path: Path, clock: Clock) -> None:
    """On v1 each controller has a tree; a memory limit that does not hold for groups below is none, nor is blkio's."""
    for controller in ("cpu", "cpuacct", "memory", "blkio"):
        (tmp_path / controller / "task" / ONE).mkdir(parents=True)
    write(tmp_path / "cpu/task", cpu__stat="nr_periods 7\nnr_throttled 5\nthrottled_time 300\n")
    write(tmp_path / "cpu/task", cpu__cfs_quota_us="20000\n", cpu__cfs_period_us="100000\n")
    write(tmp_path / "cpuacct/task", cpuacct__usage="77\n")
    write(tmp_path / "memory/task", memory__usage_in_bytes="4096\n", memory__limit_in_bytes="8192\n")
    write(tmp_path / "memory/task", memory__failcnt="2\n", memory__use_hierarchy="1\n")
    write(tmp_path / "blkio/task", blkio__throttle__write_bps_device="254:0 1024\n")
    mounts = {name: ("/", str(tmp_path / name)) for name in ("cpu", "cpuacct", "memory", "blkio")}
    watched = Watched(Tree(mounts), clock)
    one = watched.container(f"/task/{ONE}")
    watched.read()
    cpu: Found = {
        ("cpu.limit", "/task"): [0.2],
        ("cpu.time", "/task"): [77],
        ("cpu.periods", "/task"): [7],
        ("cpu.throttled_periods", "/task"): [5],
        ("cpu.throttled", "/task"): [300],
    }
    memory: Found = {
        ("memory.limit", "/task"): [8192],
        ("memory.usage", "/task"): [4096],
        ("memory.limit_hits", "/task"): [2],
    }
    assert sent(one) == {**cpu, **memory}
    write(tmp_path / "memory/task", memory__use_hierarchy="0\n")
    watched.read()
    assert sent(one) == cpu


def test_a_limit_that_comes_and_goes(v2: Watched, tmp_path: Path) -> None:
    """From when it is set its counters are told, with what they were before; then no more."""
    pod = tmp_path / POD.strip("/")
    write(pod, cpu__stat="usage_usec 5\nthrottled_usec 0\n", cpu__max="max 100000\n")
    one = v2.container(f"{POD}/{ONE}")
    v2.read()
    v2.read(full=False)
    assert sent(one) == {}
    write(pod, cpu__stat="usage_usec 8\nthrottled_usec 60\n", cpu__max="50000 100000\n")
    v2.read(full=False)
    assert sent(one) == {}, "without a limit it is looked at once a second"
    v2.read()
    assert sent(one)["cpu.throttled", POD] == [0, 60_000]
    write(pod, cpu__stat="usage_usec 9\nthrottled_usec 80\n")
    v2.read(full=False)
    assert sent(one)["cpu.throttled", POD] == [80_000], "with one, as often as its container"
    write(pod, cpu__stat="usage_usec 9\nthrottled_usec 90\n", cpu__max="max 100000\n")
    v2.read()
    last = sent(one)
    assert last["cpu.throttled", POD] == [90_000]
    assert last["cpu.limit", POD] == [0.5], "as of when it was read last"
    write(pod, cpu__stat="usage_usec 11\nthrottled_usec 90\n")
    v2.read()
    assert sent(one) == {}


def test_a_container_that_comes_later(v2: Watched, tmp_path: Path) -> None:
    """It gets its first reading though the counters have stood still."""
    pod = tmp_path / POD.strip("/")
    write(pod, cpu__stat="usage_usec 5\nthrottled_usec 70\n", cpu__max="50000 100000\n")
    one = v2.container(f"{POD}/{ONE}")
    v2.read()
    two = v2.container(f"{POD}/{TWO}")
    v2.read()
    assert sent(two)["cpu.throttled", POD] == [70_000]
    assert sent(one)["cpu.throttled", POD] == [70_000, 70_000]


def test_files_are_kept_while_a_container_is_below(v2: Watched, tmp_path: Path) -> None:
    """With the last container below it a cgroup's files are closed; one that is not below any more gets nothing."""
    write(tmp_path / POD.strip("/"), cpu__stat="usage_usec 5\nthrottled_usec 70\n", cpu__max="50000 100000\n")
    kept = File._kept
    one, two = v2.container(f"{POD}/{ONE}"), v2.container(f"{POD}/{TWO}")
    v2.read()
    sent(one)
    v2.ancestors.leave(one)
    v2.read()
    assert sent(one) == {}
    assert File._kept > kept
    v2.ancestors.leave(two)
    assert File._kept == kept


def test_an_unreadable_file_costs_its_own_readings(v2: Watched, tmp_path: Path) -> None:
    """What is not as it should be is reported, and the other cgroups above are read all the same."""
    write(tmp_path / POD.strip("/"), cpu__stat="usage_usec many\n", cpu__max="50000 100000\n")
    write(tmp_path / "kubepods", cpu__stat="throttled_usec 7\n", cpu__max="50000 100000\n")
    one = v2.container(f"{POD}/{ONE}")
    with pytest.raises(ValueError, match="many"):
        v2.read()
    assert ("cpu.throttled", "/kubepods") in sent(one)


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        (f"/docker/{ONE}/docker/{TWO}", ONE),
        (f"/docker/{ONE}/kubelet.slice/pod1/cri-containerd-{TWO}.scope", ONE),  # kind
        (f"/system.slice/docker-{ONE}.scope/system.slice/docker-{TWO}.scope", ONE),
        (f"/kubepods/pod1/{TWO}", None),
        (f"/machine.slice/libpod-conmon-{ONE}.scope/{TWO}", None),
    ],
)
def test_a_container_inside_a_container(path: str, parent: str | None) -> None:
    """The container it runs inside of is the nearest id above its own in its path."""
    assert in_path(path.rpartition("/")[0]) == parent
