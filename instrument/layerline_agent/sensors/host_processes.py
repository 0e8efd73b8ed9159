"""Processes of the host that are in no container and use much CPU: the neighbours that no container's figures show.

All of ``/proc`` is looked through each second, one file for each process (13 µs), at most ``MOST_LOOKS`` of them: on a
machine with more, those that are busy are looked at each second and the others in turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from layerline_agent.cgroups import inside_container
from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Seen, Sensor

SIGNAL = "system.process.cpu.time"

BUSY_RATIO = 0.02
"""Share of a core above which a process is told of."""
STAYS_NS = 60 * 10**9
"""How long it is still told of when it rests."""
MOST_TOLD = 10
MOST_LOOKS = 512


@dataclass(slots=True)
class Process:
    """One process as it was when last looked at."""

    began: bytes
    """Its start time in ticks since boot: with the pid, who it is."""
    name: str
    at_ns: int
    used_ns: int
    ratio: float = 0.0
    """Share of a core it used between the last two looks."""
    busy_ns: int = -STAYS_NS
    """When it was last busy."""
    before: tuple[int, int] | None = None
    """The look before the last one: when, and what it had used."""


class Processes:
    """Looks at the processes of a machine, and remembers what each had used."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._proc = machine.path("proc")
        self._known: dict[int, Process] = {}
        self._contained: set[int] = set()  # in a container: told of as such, and not looked at again
        self._turn = 0

    def __call__(self, now_ns: int) -> list[Seen]:
        """CPU time of the busiest processes in no container, kernel threads included.

        Source: ``/proc/<pid>/stat`` (``utime`` and ``stime``, all threads, ticks of 1/USER_HZ s, only grow) and
        ``/proc/<pid>/cgroup``. The name is the kernel's ``comm``: at most 15 bytes.
        """
        pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        there = set(pids)
        self._known = {pid: process for pid, process in self._known.items() if pid in there}
        self._contained &= there
        for pid in self._chosen(pids, now_ns):
            self._look(pid, now_ns)
        busy = [(pid, one) for pid, one in self._known.items() if now_ns - one.busy_ns < STAYS_NS]
        busy.sort(key=lambda each: (each[1].ratio, each[1].busy_ns), reverse=True)
        told: list[Seen] = []
        for pid, one in busy:
            if self._is_contained(pid):
                self._contained.add(pid)
                del self._known[pid]
            elif len(told) < MOST_TOLD:
                where = (("process.pid", str(pid)), ("process.executable.name", one.name))
                told.append(Seen(Raw(SIGNAL, one.used_ns, where), one.before))
            if len(told) == MOST_TOLD:
                break
        return told

    def _chosen(self, pids: list[int], now_ns: int) -> Iterable[int]:
        """Whom to look at: all, or those that are busy and as many others as there is room for, in turn."""
        free = [pid for pid in pids if pid not in self._contained]
        if len(free) <= MOST_LOOKS:
            return free
        busy = [pid for pid, one in self._known.items() if now_ns - one.busy_ns < STAYS_NS][:MOST_LOOKS]
        start = self._turn % len(free)
        others = (free[start:] + free[:start])[: MOST_LOOKS - len(busy)]
        self._turn = start + len(others)
        return dict.fromkeys(busy + others)

    def _look(self, pid: int, now_ns: int) -> None:
        try:
            descriptor = os.open(f"{self._proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # ended meanwhile
            return
        try:
            stat = os.read(descriptor, 1024)
        except OSError:
            return
        finally:
            os.close(descriptor)
        # The name stands in parentheses and may hold spaces and parentheses itself: what follows begins after the last.
        end = stat.rfind(b")")
        fields = stat[end + 2 :].split(maxsplit=20)
        used_ns = (int(fields[11]) + int(fields[12])) * self._machine.tick_ns
        known = self._known.get(pid)
        if known is None or known.began != fields[19]:
            name = stat[stat.find(b"(") + 1 : end].decode(errors="replace")
            self._known[pid] = Process(fields[19], name, now_ns, used_ns)
        elif now_ns > known.at_ns:
            known.before = (known.at_ns, known.used_ns)
            known.ratio = (used_ns - known.used_ns) / (now_ns - known.at_ns)
            known.at_ns, known.used_ns = now_ns, used_ns
            if known.ratio >= BUSY_RATIO:
                known.busy_ns = now_ns

    def _is_contained(self, pid: int) -> bool:
        with suppress(OSError):
            return inside_container(Path(f"{self._proc}/{pid}/cgroup").read_text(encoding="utf-8", errors="replace"))
        return False


SENSOR = Sensor(entity="host", sources=(), scan=Processes)
