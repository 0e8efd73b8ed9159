"""Containers in the cgroup tree: whatever driver or engine made them, v1, v2 and hybrid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layerline.container import in_path
from layerline_agent.cgroups import Tree, cpuset, identify
from layerline_agent.machine import Machine

from .conftest import HYBRID, HYBRID_ID, V2, V2_ID, V2_UNLIMITED_ID

ID = "4f2a9c1d7be35f60812e94ab3c6d5f7e8091a2b3c4d5e6f708192a3b4c5d6e7f"


@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        (f"/docker/{ID}", "docker"),
        (f"/system.slice/docker-{ID}.scope", "docker"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", "podman"),
        (f"/libpod_parent/libpod-{ID}", "podman"),
        (f"/machine.slice/libpod-{ID}.scope", "podman"),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope",
            "containerd",
        ),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", "cri-o"),
        (f"/kubepods/burstable/pod0c2a/{ID}", ""),
        (f"/mine/{ID}", ""),
        (f"/docker/{'0' * 64}/docker/{ID}", "docker"),
        (f"/system.slice/docker-{'0' * 64}.scope/docker/{ID}", "docker"),
    ],
)
def test_a_container_is_told_by_its_last_part(path: str, runtime: str) -> None:
    """The last part holds the 64-digit id, bare or as the systemd driver writes it, however deep it is nested."""
    found = identify(path)
    assert found is not None
    assert (found.id, found.runtime, found.path) == (ID, runtime, path)


@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        (f"/system.slice/web.service/libpod-payload-{ID}", "podman"),  # Podman with --cgroups=split
        (f"/kubepods.slice/kubepods-pod1f2e.slice:cri-containerd:{ID}", "containerd"),
        (f"/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope", "docker"),  # rootless
    ],
)
def test_what_the_wrapper_takes_for_a_container_the_agent_does_too(path: str, runtime: str) -> None:
    """Both read a component of a path by one pattern: a process and its container's readings find each other."""
    found = identify(path)
    assert found is not None
    assert (found.id, found.runtime) == (in_path(path), runtime)


@pytest.mark.parametrize(
    ("path", "pod_uid"),
    [
        (f"/kubepods/burstable/pod6c2e5f1a-1b2c-4d3e-8f9a-0b1c2d3e4f5a/{ID}", "6c2e5f1a-1b2c-4d3e-8f9a-0b1c2d3e4f5a"),
        (
            "/kubepods.slice/kubepods-besteffort.slice/"
            f"kubepods-besteffort-pod6c2e5f1a_1b2c_4d3e_8f9a_0b1c2d3e4f5a.slice/cri-containerd-{ID}.scope",
            "6c2e5f1a-1b2c-4d3e-8f9a-0b1c2d3e4f5a",
        ),
        (f"/kubepods/pod{'0f' * 16}/{ID}", "0f" * 16),  # a static pod
        (f"/docker/{ID}", ""),
    ],
)
def test_a_path_below_kubepods_names_the_pod(path: str, pod_uid: str) -> None:
    """The pod's uid is read from the path, as the API writes it: processes that know only their pod are found by it."""
    found = identify(path)
    assert found is not None
    assert found.pod_uid == pod_uid


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/user.slice/user-0.slice/session-2.scope",
        "/system.slice/cafe.service",
        f"/docker/{ID}/init.scope",
        f"/docker/{ID[:12]}",
        f"/docker/{ID}0",
        f"/docker/{ID.upper()}",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/system.slice/crio-conmon-{ID}.scope",
        f"/system.slice/var-lib-docker-overlay2-{ID}-merged.mount",
    ],
)
def test_what_holds_no_id_is_no_container(path: str) -> None:
    """Sessions, services, monitors of containers, short and long ids are not containers."""
    assert identify(path) is None


def test_versions() -> None:
    """v1, v2 and hybrid are told by what is mounted."""
    assert Tree.of(Machine(str(HYBRID / "first"))).version == "hybrid"
    assert Tree.of(Machine(str(V2 / "first"))).version == "v2"
    assert Tree({"memory": ("/", "/x")}).version == "v1"
    assert Tree({}).version == "none"


def test_walking() -> None:
    """Walking finds every container of a machine once, though it is in every hierarchy."""
    assert [found.id for found in Tree.of(Machine(str(HYBRID / "first"))).walk()] == [HYBRID_ID]
    assert {found.id for found in Tree.of(Machine(str(V2 / "first"))).walk()} == {V2_ID, V2_UNLIMITED_ID}


def test_walking_finds_containers_inside_containers(copied: Callable[[Path], Path]) -> None:
    """A container started inside another is one of its own."""
    root = copied(V2 / "first")
    (root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope/docker/{'a' * 64}").mkdir(parents=True)
    assert "a" * 64 in {found.id for found in Tree.of(Machine(str(root))).walk()}


def test_directories_of_a_process() -> None:
    """A process tells where its container is, in each hierarchy that the machine shows."""
    machine = Machine(str(HYBRID / "first"))
    directories = Tree.of(machine).directories_of(machine, 31370, HYBRID_ID)
    root = f"{HYBRID}/first/sys/fs/cgroup"
    assert directories == {
        name: f"{root}/{name}/docker/{HYBRID_ID}"
        for name in ("blkio", "cpu", "cpuacct", "cpuset", "memory", "pids", "unified")
    }
    machine = Machine(str(V2 / "first"))
    assert Tree.of(machine).directories_of(machine, 94, V2_ID) == {
        "unified": f"{V2}/first/sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    }


def test_another_processes_directories_are_not_taken() -> None:
    """A pid that is not the container's (used again, or of another machine) leads nowhere."""
    machine = Machine(str(V2 / "first"))
    assert Tree.of(machine).directories_of(machine, 95, V2_ID) == {}
    assert Tree.of(machine).directories_of(machine, 4711, V2_ID) == {}


def test_a_process_below_its_container(copied: Callable[[Path], Path]) -> None:
    """A process in a group of its own inside its container, as systemd makes them there, leads to the container."""
    root = copied(V2 / "first")
    (root / "proc/94/cgroup").write_text(f"0::/system.slice/docker-{V2_ID}.scope/init.scope\n")
    machine = Machine(str(root))
    assert list(Tree.of(machine).directories_of(machine, 94, V2_ID).values()) == [
        f"{root}/sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    ]


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 23 0:28 /docker /odd/place rw shared:9 - cgroup cgroup rw,memory
33 23 0:28 / /elsewhere/memory rw shared:9 - cgroup cgroup rw,memory
34 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""


def test_mounts_are_read_from_the_table(copied: Callable[[Path], Path]) -> None:
    """Mount points come from the mount table where it can be read: joint controllers, odd places, the widest view."""
    root = copied(HYBRID / "first")
    (root / "proc/1").mkdir(exist_ok=True)
    (root / "proc/1/mountinfo").write_text(MOUNTS)
    assert Tree.of(Machine(str(root))).mounts == {
        "unified": ("/", f"{root}/sys/fs/cgroup/unified"),
        "cpu": ("/", f"{root}/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": ("/", f"{root}/sys/fs/cgroup/cpu,cpuacct"),
        "memory": ("/", f"{root}/elsewhere/memory"),
    }


def test_a_mount_that_shows_a_part(tmp_path: Path) -> None:
    """Where only a part of a hierarchy is mounted, paths are taken from there, and others are out of sight."""
    (tmp_path / ID).mkdir()
    tree = Tree({"memory": ("/docker", str(tmp_path))})
    assert tree.directories(f"/docker/{ID}") == {"memory": f"{tmp_path}/{ID}"}
    assert tree.directories(f"/dockers/{ID}") == {}
    assert [found.path for found in tree.walk()] == [f"/docker/{ID}"]


def test_cpus_a_container_may_use(copied: Callable[[Path], Path]) -> None:
    """They are those in effect; an older kernel's are those that were set; where nothing can be read, none."""
    root = copied(HYBRID / "first")
    directory = root / f"sys/fs/cgroup/cpuset/docker/{HYBRID_ID}"
    (directory / "cpuset.effective_cpus").write_text("0-1,4\n")
    directories = {"cpuset": str(directory), "unified": "/nowhere"}
    assert cpuset(directories) == "0-1,4"
    (directory / "cpuset.effective_cpus").unlink()
    assert cpuset(directories) == "0-1"
    (directory / "cpuset.cpus").unlink()
    assert cpuset(directories) == ""
    assert cpuset({"unified": f"{V2}/first/sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"}) == "0-1"
    assert cpuset({}) == ""
