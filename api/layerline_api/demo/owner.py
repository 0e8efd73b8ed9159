"""Who a container belongs to, so that the next demo can tell a crashed one's leftovers from a running one's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that no other process, not even after a reboot, has the same name."""

    boot_id: str
    pid_namespace: int
    pid: int
    started_ticks: int
    """Field 22 of ``/proc/PID/stat``: when it started, in clock ticks since boot; pids are used again, this is not."""

    def __str__(self) -> str:
        return f"{self.boot_id}/{self.pid_namespace}/{self.pid}/{self.started_ticks}"


def parse(text: str) -> Owner | None:
    """The owner that a label names; None if it names none."""
    try:
        boot_id, namespace, pid, ticks = text.split("/")
        return Owner(boot_id, int(namespace), int(pid), int(ticks))
    except ValueError:
        return None


def current(proc: Path = Path("/proc"), pid: int | None = None) -> Owner:
    """This process."""
    pid = os.getpid() if pid is None else pid
    return Owner(
        (proc / "sys/kernel/random/boot_id").read_text().strip(),
        os.stat(proc / "self/ns/pid").st_ino,
        pid,
        _started_ticks(proc, pid),
    )


def is_gone(owner: Owner, here: Owner, proc: Path = Path("/proc")) -> bool:
    """Whether the owner certainly runs no more. In another pid namespace one cannot know: then it is not gone."""
    if owner.boot_id != here.boot_id:
        return True
    if owner.pid_namespace != here.pid_namespace:
        return False
    try:
        return _started_ticks(proc, owner.pid) != owner.started_ticks
    except OSError:
        return True


def _started_ticks(proc: Path, pid: int) -> int:
    stat = (proc / str(pid) / "stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])
