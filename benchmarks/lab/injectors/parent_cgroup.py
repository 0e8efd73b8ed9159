"""A cgroup above a container's own (``docker run --cgroup-parent``), and a CPU limit on that one alone.

Source: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` (v1), both
in ``cpu.max`` (v2). The engine makes a folder of the same name in every hierarchy of v1; all of them go in the end.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.lab.injectors.network import undone
from layerline_api.demo.place import DemoError

CGROUPS = Path("/sys/fs/cgroup")
#: A cgroup is named after the process that made it, so that those left by processes that were killed are known.
PREFIX = "layerline-lab-"
#: The engine's cgroup driver that makes a container's cgroup below any folder; ``systemd`` takes nothing but slices.
DRIVER = "cgroupfs"
EMPTY_S = 5.0


@dataclass(frozen=True, slots=True)
class Parent:
    """The cgroup: its name, for ``--cgroup-parent``, and the folder where its CPU limit stands."""

    name: str
    folder: Path

    @contextmanager
    def limited(self, quota_ratio: float, period_us: int) -> Iterator[None]:
        """A CPU limit, in cores, for all that is below."""
        self._set(str(round(quota_ratio * period_us)), period_us)
        try:
            yield
        finally:
            self._set(None, 100_000)

    def _set(self, quota_us: str | None, period_us: int) -> None:
        if (self.folder / "cpu.max").exists():
            (self.folder / "cpu.max").write_text(f"{quota_us or 'max'} {period_us}")
            return
        (self.folder / "cpu.cfs_quota_us").write_text("-1")  # or a shorter period could make it more than it may be
        (self.folder / "cpu.cfs_period_us").write_text(str(period_us))
        (self.folder / "cpu.cfs_quota_us").write_text(quota_us or "-1")


@contextmanager
def parent_cgroup(root: Path = CGROUPS) -> Iterator[Parent]:
    """Make one, and remove it with what the engine made of the same name. DemoError if none can have a CPU limit."""
    remove_orphans(root)
    above = next((path for path in (root / "cpu", root / "cpu,cpuacct", root) if _limits(path)), None)
    if above is None:
        raise DemoError(f"no cgroup below {root} can have a CPU limit: neither cpu.cfs_quota_us nor the controller cpu")
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
    folder = above / name
    try:
        folder.mkdir()
    except OSError as problem:
        raise DemoError(f"{folder} cannot be made: {problem.strerror}") from problem
    with undone(partial(remove, root, name)):
        yield Parent(name, folder)


def _limits(above: Path) -> bool:
    controllers = above / "cgroup.subtree_control"
    return (above / "cpu.cfs_quota_us").exists() or (controllers.exists() and "cpu" in controllers.read_text().split())


def remove(root: Path, name: str) -> None:
    """Remove the cgroup in every hierarchy; one that still holds processes is tried for some seconds, then left."""
    deadline = time.monotonic() + EMPTY_S
    for folder in (*root.glob(f"*/{name}"), root / name):
        while folder.exists():
            with suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def remove_orphans(root: Path = CGROUPS, processes: Path = Path("/proc")) -> None:
    """Remove those of processes that are no more, if they are empty; nobody else's."""
    for folder in (*root.glob(f"{PREFIX}*"), *root.glob(f"*/{PREFIX}*")):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not (pid.isdecimal() and (processes / pid).exists()):
            with suppress(OSError):
                folder.rmdir()
