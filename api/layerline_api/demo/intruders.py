"""Whether the machine did something else meanwhile: the truth of a fault holds only on a core that was ours.

Independent of Layerline: the core's busy time from ``/proc/stat``, less what our own containers on it used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from layerline_api.demo.layout import numbers_of
from layerline_api.demo.place import Place

#: More than this share of the core in other hands, and the milliseconds are no longer those of the fault.
TOLERATED = 0.1
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Intruders:
    """Looks at the cores of ``cpuset``, on which only the services ``ours`` should run."""

    place: Place
    cpuset: str | None
    ours: Callable[[], Iterable[str]]
    processes_ns: Callable[[], int] = lambda: 0
    """The CPU time so far of what else is ours on these cores: processes outside of containers."""

    def share_of(self, action: Callable[[], Made]) -> tuple[Made, float]:
        """What ``action`` returns, and the share of the cores that others used meanwhile; 0 where it is not known."""
        began, busy, used = time.monotonic_ns(), self._busy_ns(), self._used_ns()
        made = action()
        length = time.monotonic_ns() - began
        others = (self._busy_ns() - busy) - (self._used_ns() - used)
        return made, max(0.0, others / length / len(numbers_of(self.cpuset))) if self.cpuset and self._known() else 0.0

    def _known(self) -> bool:
        return all(self.place.used_ns(name) is not None for name in self.ours())

    def _used_ns(self) -> int:
        return sum(self.place.used_ns(name) or 0 for name in self.ours()) + self.processes_ns()

    def _busy_ns(self) -> int:
        return 0 if self.cpuset is None else busy_ns(Path("/proc/stat").read_text(), numbers_of(self.cpuset))


def busy_ns(stat: str, numbers: Iterable[int]) -> int:
    """What some cores have run since boot.

    Source: ``cpuN`` of ``/proc/stat``: user, nice, system, idle, iowait, irq, softirq, in ticks of 1/USER_HZ s.
    """
    ticks = 0
    wanted = {f"cpu{number}" for number in numbers}
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, interrupt, soft_interrupt = map(int, fields[:7])
            ticks += user + nice + system + interrupt + soft_interrupt
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def undisturbed(intruders: Intruders, action: Callable[[], Made], again: Callable[[float], bool]) -> tuple[Made, float]:
    """Do it, and again while others use the core and ``again``, told their share, agrees.

    Returns the quietest attempt and the others' share in it.
    """
    kept, least = made, share = intruders.share_of(action)
    while least > TOLERATED and again(share):
        made, share = intruders.share_of(action)
        if share < least:
            kept, least = made, share
    return kept, least
