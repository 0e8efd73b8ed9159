"""The threads of a container by their numbers inside and outside, also those that are gone when we ask.

A thread's number outside (the kernel's trace) and inside (its spans) are both in its ``status``, as long as it lives.
Flask's own server has a thread for each request, so we look again and again meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
#: The shortest request whose thread must be seen takes some tens of milliseconds.
EVERY_S = 0.01


class Census:
    """Look again and again, from enter to exit. ``outside`` maps the numbers inside; a process that comes only later is
    not looked at. ``container_pid``: any process of the container, by its number outside.
    """

    def __init__(self, container_pid: int, proc: Path = PROC) -> None:
        self.outside: dict[int, int] = {}
        self.all: set[int] = set()
        self._processes = list(_processes(container_pid, proc))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Note every thread that is there now."""
        for process in self._processes:
            try:
                for task in (process / "task").iterdir():
                    if int(task.name) not in self.all:
                        self.outside[number_inside(task)] = int(task.name)
                        self.all.add(int(task.name))
            except OSError:
                continue  # it ended while we looked


def number_inside(task: Path) -> int:
    """The number of a thread in the innermost pid namespace. Source: ``NSpid`` of ``/proc/PID/task/TID/status``."""
    lines = (task / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def _processes(container_pid: int, proc: Path) -> Iterator[Path]:
    """The processes of a container: those of its pid namespace."""
    inside = (proc / str(container_pid) / "ns/pid").readlink()
    for process in proc.iterdir():
        try:
            if process.name.isdecimal() and (process / "ns/pid").readlink() == inside:
                yield process
        except OSError:
            continue  # it ended while we looked, or is not ours to see
