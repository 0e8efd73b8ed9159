"""How many CPUs this process may use, also after somebody has changed that (``docker update --cpuset-cpus``).

The resource says how many there were at the start; spans say so only where it has changed since.

Source: sched_getaffinity(2) of the calling thread, which a cpuset narrows.
"""

from __future__ import annotations

import os
from typing import Final

#: In short spans a change is seen so late at most (ns).
_EVERY_NS: Final = 1_000_000_000
#: A span that took so long is worth a system call of its own (ns).
_LONG_NS: Final = 20_000_000


class Affinity:
    """The number of CPUs, asked for once a second and as long spans end. ``at_start``: what the resource says."""

    __slots__ = ("_at_start", "_now", "_read_at")

    def __init__(self, at_start: int | None = None) -> None:
        self._at_start = self._now = len(os.sched_getaffinity(0)) if at_start is None else at_start
        self._read_at = 0

    def changed(self, now_ns: int, since_ns: int) -> int | None:
        """The number at ``now_ns``, the end of a span that began at ``since_ns`` (ns, one clock).

        None while it is as it was at the start.
        """
        if now_ns - self._read_at >= (_LONG_NS if now_ns - since_ns >= _LONG_NS else _EVERY_NS):
            self._read_at = now_ns
            self._now = len(os.sched_getaffinity(0))
        return None if self._now == self._at_start else self._now
