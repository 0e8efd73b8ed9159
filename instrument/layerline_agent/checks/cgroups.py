"""Whether the cgroups of containers, and those above them, can be seen and read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from layerline.doctor import ADVICE, OK, PROBLEM, Check, Context, Finding
from layerline_agent.cgroups import UNIFIED, Tree
from layerline_agent.machine import Machine

#: What is read first of a cgroup, by hierarchy; a cgroup that has no such file does not keep it.
_FILES = {
    "cpu": ("cpu.stat", "cpu.cfs_quota_us"),
    "memory": ("memory.usage_in_bytes", "memory.stat"),
    "blkio": ("blkio.throttle.io_service_bytes",),
    UNIFIED: ("cpu.stat", "memory.current", "io.stat", "cpu.max"),
}
_MOUNT = "in a container: -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro -v /proc:/host/proc:ro, LAYERLINE_HOST_ROOT=/host"


def look(context: Context) -> Finding:
    """The layout, how many containers are seen, and the first file that this user may not read."""
    tree = Tree.of(Machine(context.host_root))
    if tree.version == "none":
        return Finding(PROBLEM, "no cgroups are mounted here", _MOUNT)
    if part := next((root for root, _ in tree.mounts.values() if root != "/"), None):
        found = f"only the part {part} of the cgroup tree is visible: this runs inside a container"
        return Finding(PROBLEM, found, f"{_MOUNT}; or docker run --cgroupns host --pid host")
    containers = list(tree.walk())
    above = 0
    for container in containers:
        directories = tree.directories(container.path)
        over = tree.above(directories)
        above += len(over)
        for own in (directories, *over.values()):
            for path in _files(own):
                if not os.access(path, os.R_OK):
                    cure = "run the agent as root, or as a user that may read it (`namei -l PATH` shows where it ends)"
                    return Finding(PROBLEM, f"{path} may not be read by this user", cure)
    layout = f"layout {tree.version}"
    if not containers:
        return Finding(ADVICE, f"{layout}; no container is seen", f"nothing, if none runs here; else {_MOUNT}")
    return Finding(OK, f"{layout}; {len(containers)} containers and the {above} cgroups above them can be read")


def _files(directories: dict[str, str]) -> Iterator[str]:
    for hierarchy, directory in directories.items():
        for name in _FILES.get(hierarchy, ()):
            if os.path.lexists(path := f"{directory}/{name}"):
                yield path
        if not os.access(directory, os.R_OK | os.X_OK):
            yield directory


CHECK = Check(order=30, title="cgroups", look=look)
