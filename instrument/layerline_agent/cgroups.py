"""Where containers are in the cgroup tree: v1, v2 and hybrid, whatever driver or engine made them.

v1 has a tree for each controller; v2 one for all, called ``unified`` here. A hybrid machine has both: controllers in
v1, and beside them the unified tree, which is the only one with pressure. Sources: cgroups(7), proc_pid_mountinfo(5),
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from layerline.container import COMPONENT
from layerline_agent.machine import Machine

UNIFIED = "unified"

#: The v1 controllers the sensors read.
CONTROLLERS = frozenset({"cpu", "cpuacct", "memory", "blkio", "pids", "cpuset", "freezer"})

#: Who made a container's cgroup, by what stands before the id in its name.
ENGINES = {
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "nerdctl": "containerd",
}


#: The pod in a path below ``kubepods``; the systemd driver writes ``_`` for ``-``. A static pod's uid is 32 digits.
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})")


class Found(NamedTuple):
    """A container's cgroup found by walking."""

    id: str
    runtime: str
    """Who made it, as its name or its parent's tells: ``docker``, ``podman``, ``containerd``, ``cri-o``; else empty."""
    path: str
    """From the root of the tree, as in ``/proc/<pid>/cgroup``: ``/docker/05387d40…``."""

    @property
    def pod_uid(self) -> str:
        """Of the Kubernetes pod it belongs to; empty where the path names none."""
        found = _POD.findall(self.path.rpartition("/")[0])
        return found[-1].replace("_", "-") if found else ""


def identify(path: str) -> Found | None:
    """The container whose cgroup this path is; None where its last part holds no 64-digit id.

    ``/user.slice/…/session-2.scope`` is none, and neither is anything below a container's cgroup.
    """
    parent, _, last = path.rstrip("/").rpartition("/")
    match = COMPONENT.fullmatch(last)
    if match is None:
        return None
    engine = match["maker"] or parent.rpartition("/")[2].removesuffix("_parent")
    return Found(match["id"], ENGINES.get(engine, ""), path)


def inside_container(listing: str) -> bool:
    """Whether a process with this ``/proc/<pid>/cgroup`` is in a container, or in a group below a container's."""
    return any(COMPONENT.fullmatch(part) for line in listing.splitlines() for part in line.split(":", 2)[-1].split("/"))


def cpuset(directories: Mapping[str, str]) -> str:
    """The CPUs that the tasks of a cgroup may use, as ``0-1,4``; empty where it cannot be read.

    Source: v1 ``cpuset.effective_cpus`` (Linux 3.17) or ``cpuset.cpus``; v2 ``cpuset.cpus.effective`` (Linux 5.0),
    which is there only where the controller is enabled for the group.
    """
    names = ("cpuset.effective_cpus", "cpuset.cpus") if "cpuset" in directories else ("cpuset.cpus.effective",)
    directory = directories.get("cpuset") or directories.get(UNIFIED, "")
    for name in names:
        with suppress(OSError):
            if directory and (cpus := Path(directory, name).read_text(encoding="ascii").strip()):
                return cpus
    return ""


def counts_above(directories: Mapping[str, str]) -> bool:
    """Whether what quotas above a container withheld is counted in its own throttled time.

    Source: there is a ``cpu.stat.local``, Linux 6.5.
    """
    directory = directories.get("cpu") or directories.get(UNIFIED)
    return directory is None or os.path.exists(f"{directory}/cpu.stat.local")


def pids(directories: Mapping[str, str]) -> list[int]:
    """The processes of a cgroup that this process can name, without those of its children. Source: ``cgroup.procs``."""
    for directory in directories.values():
        with suppress(OSError):
            return [pid for line in Path(directory, "cgroup.procs").read_text("ascii").split() if (pid := int(line))]
    return []


def processes(directories: Mapping[str, str]) -> str:
    """The file that lists the processes of a cgroup; on a hybrid machine a v1 controller's, as with ``Tree.walk``."""
    return f"{directories.get('cpu') or directories.get('memory') or directories.get(UNIFIED, '')}/cgroup.procs"


def _mounts(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """``(hierarchy, root within it, mount point)`` of every cgroup mount of the host."""
    for process in ("1", "self"):
        try:
            listing = Path(machine.path("proc", process, "mountinfo")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in listing.splitlines():
            before, _, after = line.partition(" - ")
            root, point = before.split()[3:5]
            kind, _, options = after.split(maxsplit=2)
            if kind == "cgroup2":
                yield UNIFIED, root, point
            elif kind == "cgroup":
                for controller in CONTROLLERS.intersection(options.split(",")):
                    yield controller, root, point
        return
    # No mount table to read (a captured tree, a /proc without our rights): the usual places.
    if os.path.exists(machine.path("sys/fs/cgroup/cgroup.controllers")):
        yield UNIFIED, "/", "/sys/fs/cgroup"
        return
    try:
        names = os.listdir(machine.path("sys/fs/cgroup"))
    except OSError:
        return
    for name in names:
        if name == UNIFIED:
            yield UNIFIED, "/", "/sys/fs/cgroup/unified"
        else:
            for controller in CONTROLLERS.intersection(name.split(",")):
                yield controller, "/", f"/sys/fs/cgroup/{name}"


@dataclass(frozen=True)
class Tree:
    """The cgroup hierarchies of a host."""

    mounts: Mapping[str, tuple[str, str]]
    """By hierarchy (a v1 controller or ``unified``): the cgroup that is its root, and where it is mounted."""

    @classmethod
    def of(cls, machine: Machine) -> Tree:
        """The hierarchies that are mounted and visible. Where one is mounted twice, the widest view counts."""
        mounts: dict[str, tuple[str, str]] = {}
        for hierarchy, root, point in _mounts(machine):
            if hierarchy not in mounts or len(root) < len(mounts[hierarchy][0]):
                mounts[hierarchy] = (root, machine.path(point))
        return cls(mounts)

    @property
    def version(self) -> str:
        """``v1``, ``v2``, ``hybrid``, or ``none`` where nothing is mounted."""
        controllers = self.mounts.keys() - {UNIFIED}
        if UNIFIED in self.mounts:
            return "hybrid" if controllers else "v2"
        return "v1" if controllers else "none"

    def _directory(self, hierarchy: str, path: str) -> str | None:
        root, point = self.mounts[hierarchy]
        if root != "/":
            if path != root and not path.startswith(root + "/"):
                return None
            path = path[len(root) :]
        directory = point + path.rstrip("/")
        return directory if os.path.isdir(directory) else None

    def paths(self, directories: Mapping[str, str]) -> dict[str, str]:
        """By hierarchy, the path of these directories from the root of the tree, as in ``/proc/<pid>/cgroup``."""
        found = {}
        for hierarchy, (root, point) in self.mounts.items():
            directory = directories.get(hierarchy, "")
            if directory.startswith(f"{point}/") or directory == point:
                found[hierarchy] = (root.rstrip("/") + directory[len(point) :]) or "/"
        return found

    def above(self, directories: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The cgroups above a container's, nearest first: by path, the directory in each hierarchy where it is above.

        Without the machine's root, and as far as the hierarchies are mounted.
        """
        found: dict[str, dict[str, str]] = {}
        for hierarchy, path in self.paths(directories).items():
            root, point = self.mounts[hierarchy]
            directory = directories[hierarchy]
            while directory != point:
                path, directory = path.rpartition("/")[0], directory.rpartition("/")[0]
                if not path or (directory == point and root == "/"):
                    break
                found.setdefault(path, {})[hierarchy] = directory
        return dict(sorted(found.items(), key=lambda each: -each[0].count("/")))

    def directories(self, path: str) -> dict[str, str]:
        """The directory of this cgroup in each hierarchy that has one."""
        found = ((hierarchy, self._directory(hierarchy, path)) for hierarchy in self.mounts)
        return {hierarchy: directory for hierarchy, directory in found if directory is not None}

    def directories_of(self, machine: Machine, pid: int, container_id: str) -> dict[str, str]:
        """The directories of a container's main process; empty where it is gone or is not on this machine.

        Source: ``/proc/<pid>/cgroup``, which holds for every driver, cgroup parent and nesting. A path without the id
        is somebody else's: the pid was used again, or belongs to the Docker Engine of another machine.
        """
        try:
            listing = Path(machine.path("proc", str(pid), "cgroup")).read_text(encoding="utf-8")
        except OSError:
            return {}
        directories = {}
        for line in listing.splitlines():
            _, names, path = line.split(":", 2)
            # Processes may live in a group below the container's own: cut after the part that holds the id.
            start = path.rfind(container_id)
            if start < 0:
                continue
            end = path.find("/", start)
            path = path if end < 0 else path[:end]
            for hierarchy in names.split(",") if names else (UNIFIED,):
                if hierarchy in self.mounts and (directory := self._directory(hierarchy, path)):
                    directories[hierarchy] = directory
        return directories

    def walk(self) -> Iterator[Found]:
        """Every container cgroup, those inside containers too.

        One hierarchy is walked: an engine makes its groups in all of them. On a hybrid machine a v1 controller's,
        because not every engine uses the unified one there.
        """
        for hierarchy in ("memory", "cpu", "cpuacct", UNIFIED):
            if hierarchy in self.mounts:
                root, point = self.mounts[hierarchy]
                yield from _walk(point, "" if root == "/" else root)
                return


def _walk(directory: str, path: str) -> Iterator[Found]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # gone meanwhile
        return
    for name in names:
        below = f"{path}/{name}"
        if found := identify(below):
            yield found
        yield from _walk(f"{directory}/{name}", below)
