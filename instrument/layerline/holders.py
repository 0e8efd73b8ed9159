"""Who may hold the lock that a slow thread waits for, and how long those waited for a CPU meanwhile.

Python does not say who holds a lock. It is another thread of this process that is at work: one that waits for a
connection or for something to do holds no lock of the app's, and who stands at the same place waits for it too. At each
look that finds a thread waiting for a lock or in a sleep (``watcher.py``), the time that each of the others has waited
for a CPU so far is read. What the least of them waited in a stretch of time, the holder waited at least; a holder that
slept, at a disk or a socket, is one of them, and then the least is next to nothing. Who was seen in one look only is
read once more when the span ends.

Source: ``/proc/self/task/<tid>/schedstat``, field 2 (ns).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic_ns
from types import FrameType
from typing import Final

from layerline.seen import has_own, place

#: In a process with more threads than this nobody is asked.
_MOST_THREADS: Final = 64
#: Where threads wait for something to do: the ends of files' paths.
_IDLE: Final = ("selectors.py", "socketserver.py", "queue.py", "concurrent/futures/thread.py")

#: When a thread was looked at, how long it had waited for a CPU by then (ns), and where it stood.
Looked = tuple[int, int, str]


def at_work(frames: Mapping[int, FrameType]) -> dict[int, Looked]:
    """The threads that may hold a lock of the app's, by their number in Python; none where there are too many."""
    found: dict[int, Looked] = {}
    if len(frames) > _MOST_THREADS:
        return found
    for ident, frame in frames.items():
        thread = threading._active.get(ident)  # type: ignore[attr-defined]
        if thread is None or thread.native_id is None:
            continue  # ours, or one that Python did not start
        if frame.f_code.co_filename.endswith(_IDLE) or not has_own(frame):
            continue
        if (read := waited_so_far(thread.native_id)) is not None:
            found[ident] = (*read, place(frame))
    return found


def waited_so_far(native_id: int) -> tuple[int, int] | None:
    """Now (ns, monotonic), and how long that thread has waited for a CPU since it began (ns); None if it has ended."""
    try:
        with open(f"/proc/self/task/{native_id}/schedstat", "rb", buffering=0) as file:
            return monotonic_ns(), int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Holders:
    """Of one span: what others were seen to wait while its thread waited for a lock."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: dict[int, Looked] = {}
        self._last: dict[int, Looked] = {}

    def look(self, others: Mapping[int, Looked], waiter: int, where: str) -> None:
        """The thread ``waiter`` was found waiting at ``where``."""
        for ident, looked in others.items():
            if ident != waiter and looked[2] != where:
                self._first.setdefault(ident, looked)
                self._last[ident] = looked

    def close(self) -> None:
        """The span ends: read those once more of whom there was one look only."""
        for ident, looked in self._last.items():
            if looked is self._first[ident]:
                thread = threading._active.get(ident)  # type: ignore[attr-defined]
                if thread is not None and thread.native_id is not None and (read := waited_so_far(thread.native_id)):
                    self._last[ident] = (*read, looked[2])

    def waited(self) -> tuple[float, float] | None:
        """The least and the largest share of its time that one of them waited for a CPU; None without two looks."""
        shares = [
            min(1.0, (last[1] - first[1]) / (last[0] - first[0]))
            for ident, last in self._last.items()
            if last[0] > (first := self._first[ident])[0]
        ]
        if not shares:
            return None
        once = len(shares) < len(self._last)  # of one that was seen once nothing is known
        return 0.0 if once else min(shares), max(shares)
