"""Whose CPU quota held a container back: its own, one above it, or one that cannot be seen from inside."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerline.attributes import (
    CONTAINER_CPU_PERIOD_NS,
    CONTAINER_CPU_QUOTA_NS,
    CONTAINER_THROTTLED_BY,
    CONTAINER_THROTTLED_NS,
    CONTAINER_THROTTLED_PERIODS,
    CONTAINER_USAGE_NS,
)
from layerline.cgroup import Cgroup, parse_mounts
from layerline.quota import Quotas

MS = 1_000_000
SECOND = 1_000_000_000
NOW = 10**18
ID = "4f2a9c1d7be35f60812e94ab3c6d5f7e8091a2b3c4d5e6f708192a3b4c5d6e7f"
POD = f"/kubepods/pod1/{ID}"
V2 = "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw"
V1 = "30 23 0:26 / /sys/fs/cgroup ro - cgroup cgroup rw,cpu"


class Tree:
    """A made-up cgroup tree below one mount, v1 or v2."""

    def __init__(self, root: Path, unified: bool, path: str = POD, mount: str = "") -> None:
        self.root, self.unified, self.path = root, unified, path
        self.mounts = parse_mounts(mount or (V2 if unified else V1))
        self.top = root / "sys/fs/cgroup"
        self.top.mkdir(parents=True)
        if self.mounts[0].root == "/":
            (self.top / ("cgroup.controllers" if unified else "release_agent")).touch()  # the machine's root
            (self.top / "cpu.stat").write_text("nr_periods 9\nnr_throttled 9\nthrottled_time 9\nthrottled_usec 9\n")

    def group(self, path: str, ms: int = 0, periods: int = 0, quota_ms: int | None = None, local: int = -1) -> None:
        """Its ``cpu.stat``, limit and, where it is given, ``cpu.stat.local`` (ms)."""
        folder = self.top / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.events").touch()
        key, unit = ("throttled_usec", 1_000) if self.unified else ("throttled_time", MS)
        usage = f"usage_usec {ms * 1_000}\n" if self.unified else ""
        (folder / "cpu.stat").write_text(f"{usage}nr_periods 99\nnr_throttled {periods}\n{key} {ms * unit}\n")
        if local >= 0:
            (folder / "cpu.stat.local").write_text(f"{key} {local * unit}\n")
        if self.unified:
            (folder / "cpu.max").write_text("max 100000\n" if quota_ms is None else f"{quota_ms * 1_000} 100000\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text("-1\n" if quota_ms is None else f"{quota_ms * 1_000}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")

    def quotas(self, contained: bool = True) -> Quotas:
        """As the process in the tree's path sees them."""
        return Quotas(
            Cgroup({"" if self.unified else "cpu": self.path}, self.mounts, self.root), contained=contained, now=NOW
        )


def gained(quotas: Quotas, begun: tuple[bytes, ...], at: int = NOW + MS) -> dict[str, int | str]:
    found = dict(quotas.gained(begun, begun, quotas.read(at, begun)))
    found.pop(CONTAINER_USAGE_NS, None)
    return found


@pytest.fixture(params=["v1", "v2"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param == "v2")


def test_its_own_quota(tree: Tree) -> None:
    """Its own quota is named by nothing: time, periods, quota and period are the container's."""
    tree.group("/kubepods")
    tree.group("/kubepods/pod1")
    tree.group(POD, ms=100, periods=2, quota_ms=20)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group(POD, ms=340, periods=5, quota_ms=20)
    assert gained(quotas, begun) == {
        CONTAINER_THROTTLED_NS: 240 * MS,
        CONTAINER_THROTTLED_PERIODS: 3,
        CONTAINER_CPU_QUOTA_NS: 20 * MS,
        CONTAINER_CPU_PERIOD_NS: 100 * MS,
    }


def test_the_quota_of_a_pod(tree: Tree) -> None:
    """The container's own counter stands still under the quota of its pod: the pod's counts, and is named."""
    tree.group("/kubepods")
    tree.group("/kubepods/pod1", quota_ms=30)
    tree.group(POD)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/kubepods/pod1", ms=210, periods=3, quota_ms=30)
    assert gained(quotas, begun) == {
        CONTAINER_THROTTLED_NS: 210 * MS,
        CONTAINER_THROTTLED_PERIODS: 3,
        CONTAINER_THROTTLED_BY: "/kubepods/pod1",
        CONTAINER_CPU_QUOTA_NS: 30 * MS,
        CONTAINER_CPU_PERIOD_NS: 100 * MS,
    }


def test_nested_quotas_do_not_add_up(tree: Tree) -> None:
    """Of two that were used up the one that withheld more is reported, not their sum."""
    tree.group("/kubepods")
    tree.group("/kubepods/pod1", quota_ms=30)
    tree.group(POD, quota_ms=20)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/kubepods/pod1", ms=50, periods=1, quota_ms=30)
    tree.group(POD, ms=160, periods=2, quota_ms=20)
    found = gained(quotas, begun)
    assert found[CONTAINER_THROTTLED_NS] == 160 * MS
    assert CONTAINER_THROTTLED_BY not in found
    assert found[CONTAINER_CPU_QUOTA_NS] == 20 * MS


def test_nothing_withheld_is_a_true_zero(tree: Tree) -> None:
    """Without throttling the time is 0, nobody is named, and the quota is the container's own or absent."""
    tree.group("/kubepods/pod1", ms=70, periods=1, quota_ms=30)
    tree.group(POD)
    quotas = tree.quotas()
    assert gained(quotas, quotas.read(NOW)) == {CONTAINER_THROTTLED_NS: 0, CONTAINER_THROTTLED_PERIODS: 0}


@pytest.mark.parametrize("seen", [True, False])
def test_what_the_kernel_says_of_the_container_itself(tree: Tree, seen: bool) -> None:
    """``cpu.stat.local`` counts each moment once and only the container's own, also for a quota out of sight."""
    tree.group("/kubepods")
    tree.group("/kubepods/pod1", quota_ms=30 if seen else None)
    tree.group(POD, quota_ms=50, local=0)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/kubepods/pod1", ms=400 if seen else 0, periods=4, quota_ms=30 if seen else None)  # others' too
    tree.group(POD, ms=20, periods=1, quota_ms=50, local=250)
    found = gained(quotas, begun)
    assert found.pop(CONTAINER_THROTTLED_NS) == 250 * MS
    if seen:
        assert found == {
            CONTAINER_THROTTLED_BY: "/kubepods/pod1",
            CONTAINER_THROTTLED_PERIODS: 4,
            CONTAINER_CPU_QUOTA_NS: 30 * MS,
            CONTAINER_CPU_PERIOD_NS: 100 * MS,
        }
    else:
        assert found == {CONTAINER_THROTTLED_BY: "/.."}


@pytest.mark.parametrize("local", [False, True])
def test_inside_a_namespace(tmp_path: Path, local: bool) -> None:
    """Nothing above it is visible there: what a quota above withheld is not measured, or is known without a name."""
    mount = "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw"
    tree = Tree(tmp_path, unified=True, path="/", mount=mount)
    tree.group("/", quota_ms=50, local=0 if local else -1)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/", quota_ms=50, local=80 if local else -1)
    found = gained(quotas, begun)
    assert found.get(CONTAINER_THROTTLED_BY) == ("/.." if local else None)
    assert found[CONTAINER_THROTTLED_NS] == (80 * MS if local else 0)


@pytest.mark.parametrize(("path", "named"), [(f"/task/{ID}", "/task"), (POD, "/..")])
def test_only_the_container_s_own_cgroup_is_mounted(tmp_path: Path, path: str, named: str) -> None:
    """Docker on v1 mounts the container's own cgroup alone, but its path is known: the only one above has a name."""
    tree = Tree(tmp_path, unified=False, path=path, mount=f"30 23 0:26 {path} /sys/fs/cgroup ro - cgroup cgroup rw,cpu")
    tree.group("/", local=0)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/", local=80)
    assert gained(quotas, begun) == {CONTAINER_THROTTLED_NS: 80 * MS, CONTAINER_THROTTLED_BY: named}


def test_a_unit_inside_a_container(tmp_path: Path) -> None:
    """systemd makes groups inside a container: the container's own quota is not that of somebody above it."""
    tree = Tree(tmp_path, unified=True, path=f"/docker/{ID}/system.slice/app.service")
    for path in ("/docker", f"/docker/{ID}/system.slice", tree.path):
        tree.group(path)
    tree.group(f"/docker/{ID}", quota_ms=20)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group(f"/docker/{ID}", ms=90, periods=1, quota_ms=20)
    found = gained(quotas, begun)
    assert found[CONTAINER_THROTTLED_NS] == 90 * MS
    assert found[CONTAINER_CPU_QUOTA_NS] == 20 * MS
    assert CONTAINER_THROTTLED_BY not in found


def test_a_plain_process_below_a_slice_with_a_quota(tmp_path: Path) -> None:
    """Outside containers its own is the process's unit, and a slice above it is named."""
    tree = Tree(tmp_path, unified=True, path="/shop.slice/web.service")
    tree.group("/shop.slice", quota_ms=40)
    tree.group(tree.path)
    quotas = tree.quotas(contained=False)
    begun = quotas.read(NOW)
    tree.group("/shop.slice", ms=60, periods=1, quota_ms=40)
    assert gained(quotas, begun)[CONTAINER_THROTTLED_BY] == "/shop.slice"


def test_a_quota_that_is_set_later(tree: Tree) -> None:
    """A limit that somebody sets above a running container is seen within a second, and counts from when it was set."""
    tree.group("/kubepods/pod1", ms=5)
    tree.group(POD)
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    tree.group("/kubepods/pod1", ms=105, periods=1, quota_ms=30)
    assert gained(quotas, begun, NOW + 999 * MS)[CONTAINER_THROTTLED_NS] == 0
    found = gained(quotas, begun, NOW + SECOND)
    assert found[CONTAINER_THROTTLED_NS] == 100 * MS
    assert found[CONTAINER_CPU_QUOTA_NS] == 30 * MS
    tree.group("/kubepods/pod1", ms=105, periods=1)
    assert gained(quotas, quotas.read(NOW + 3 * SECOND), NOW + 3 * SECOND)[CONTAINER_THROTTLED_NS] == 0


def test_a_container_without_the_cpu_controller(tmp_path: Path) -> None:
    """v2 shows throttling only where the controller is enabled: its own cgroup may not have it, one above may."""
    tree = Tree(tmp_path, unified=True, path="/user.slice/app.scope")
    tree.group("/user.slice", quota_ms=40)
    tree.group("/user.slice/app.scope")
    (tree.top / "user.slice/app.scope/cpu.stat").write_text("usage_usec 7\n")
    (tree.top / "user.slice/app.scope/cpu.max").unlink()
    quotas = tree.quotas()
    begun = quotas.read(NOW)
    (tree.top / "user.slice/app.scope/cpu.stat").write_text("usage_usec 9\n")
    tree.group("/user.slice", ms=60, periods=1, quota_ms=40)
    found = dict(quotas.gained(begun, begun, quotas.read(NOW + MS, begun)))
    assert found[CONTAINER_THROTTLED_NS] == 60 * MS
    assert found[CONTAINER_THROTTLED_BY] == "/user.slice"
    assert found[CONTAINER_USAGE_NS] == 2_000


# ---- against this machine's kernel

UNDER_A_PARENT = """
import json, os, sys, time
from pathlib import Path
from layerline.cgroup import Cgroup
from layerline.quota import Quotas

for folder in sys.argv[1:]:
    Path(folder, "cgroup.procs").write_text(str(os.getpid()))
quotas = Quotas(Cgroup.of_this_process(), contained=False, now=time.time_ns())
begun = quotas.read(time.time_ns())
end = time.thread_time() + 0.03
while time.thread_time() < end:
    pass
print(json.dumps(dict(quotas.gained(begun, begun, quotas.read(time.time_ns(), begun)))))
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A new cgroup with the least quota there is, 0.01 CPU, and a group without one in it: v1's cpu or v2."""
    v1 = Path("/sys/fs/cgroup/cpu")
    top = v1 if (v1 / "cpu.shares").exists() or (v1 / "cgroup.procs").exists() else Path("/sys/fs/cgroup")
    made = top / f"layerline-test-{uuid.uuid4().hex[:12]}"
    try:
        (made / "inner").mkdir(parents=True)
        if top == v1:
            (made / "cpu.cfs_quota_us").write_text("1000")
        else:
            (made / "cgroup.subtree_control").write_text("+cpu")
            (made / "cpu.max").write_text("1000 100000")
    except OSError as problem:
        pytest.skip(f"cannot make a cgroup with a quota: {problem}")
    yield made
    (made / "inner").rmdir()
    made.rmdir()


def test_a_real_quota_above(parent: Path) -> None:
    """A process whose own cgroup has no limit is told what the cgroup above it withheld, and which one that is."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_PARENT, str(parent / "inner")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found[CONTAINER_THROTTLED_BY] == f"/{parent.name}"
    assert (found[CONTAINER_CPU_QUOTA_NS], found[CONTAINER_CPU_PERIOD_NS]) == (1 * MS, 100 * MS)
    assert found[CONTAINER_THROTTLED_PERIODS] >= 1
    assert found[CONTAINER_THROTTLED_NS] > 0
