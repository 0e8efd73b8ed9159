"""Who may hold the lock that a slow thread waits for, and how long those waited for a CPU meanwhile.

At each look that finds a thread waiting for a lock or in a sleep (``watcher.py``), the time that each of the others has
waited for a CPU so far is read. Where the code says who holds the lock (``locks.py``), it is that thread's that counts.
Else it is another thread of this process that is at work: one that waits for a connection or for something to do holds
no lock of the app's, and who stands at the same place waits for it too. What the least of them waited in a stretch of
time, the holder waited at least; a holder that slept, at a disk or a socket, is one of them, and then the least is next
to nothing. Who was seen in one look only is read once more when the span ends.

Source: ``/proc/self/task/<tid>/schedstat``, field 2 (ns).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from time import monotonic_ns
from types import FrameType
from typing import Final

from layerline.seen import has_own, place

#: In a process with more threads than this nobody is asked.
_MOST_THREADS: Final = 64
#: Where threads wait for something to do: the ends of files' paths.
_IDLE: Final = ("selectors.py", "socketserver.py", "queue.py", "concurrent/futures/thread.py")

#: Places of holders that are counted in one span.
_MOST_PLACES: Final = 32

#: When a thread was looked at, how long it had waited for a CPU by then (ns), and where it stood.
Looked = tuple[int, int, str]


def at_work(frames: Mapping[int, FrameType]) -> dict[int, Looked]:
    """The threads that may hold a lock of the app's, by their number in Python; none where there are too many."""
    found: dict[int, Looked] = {}
    if len(frames) > _MOST_THREADS:
        return found
    for ident, frame in frames.items():
        tid = number_of(ident)
        if tid is None:
            continue  # ours, or one that Python did not start
        if frame.f_code.co_filename.endswith(_IDLE) or not has_own(frame):
            continue
        if (read := waited_so_far(tid)) is not None:
            found[ident] = (*read, place(frame))
    return found


def number_of(ident: int) -> int | None:
    """The kernel's number of a thread that Python has started; None of others.

    In a forked child the main thread's number is the process's, while Python names the one that it was in the parent.
    """
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    if thread is threading.main_thread():
        return os.getpid()
    return None if thread is None else thread.native_id


def waited_so_far(native_id: int) -> tuple[int, int] | None:
    """Now (ns, monotonic), and how long that thread has waited for a CPU since it began (ns); None if it has ended."""
    try:
        with open(f"/proc/self/task/{native_id}/schedstat", "rb", buffering=0) as file:
            return monotonic_ns(), int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Holders:
    """Of one span: what others were seen to wait while its thread waited for a lock."""

    __slots__ = ("_before", "_first", "_held", "_held_ns", "_last", "_looks", "_waited_ns")

    def __init__(self) -> None:
        self._first: dict[int, Looked] = {}
        self._last: dict[int, Looked] = {}
        self._looks = 0
        self._held: Counter[str] = Counter()  # where who holds the lock was seen, and in how many looks
        self._before: tuple[int, Looked] | None = None  # who held it in the look before
        self._held_ns = self._waited_ns = 0  # between two looks that found the same holder; of that it waited for a CPU

    def look(self, others: Mapping[int, Looked], waiter: int, where: str, holder: int | None = None) -> None:
        """The thread ``waiter`` was found waiting at ``where``, for a lock that ``holder`` holds, if that is known."""
        for ident, looked in others.items():
            if ident != waiter and (looked[2] != where or ident == holder):
                self._first.setdefault(ident, looked)
                self._last[ident] = looked
        self._looks += 1
        found = others.get(holder) if holder is not None and holder != waiter else None
        if holder is None or found is None:
            self._before = None
            return
        self._held[found[2]] += 1
        if self._before is not None and self._before[0] == holder:
            self._held_ns += found[0] - self._before[1][0]
            self._waited_ns += found[1] - self._before[1][1]
        self._before = (holder, found)

    def look_at_task(self, held_by: str | None) -> None:
        """A task was found waiting for a lock, an event or a queue; ``held_by``: where its holder stood, if known."""
        self._looks += 1
        if held_by is not None and (held_by in self._held or len(self._held) < _MOST_PLACES):
            self._held[held_by] += 1

    def held_by(self) -> str | None:
        """Where who holds the lock stood in most looks, ``function file:line``; None unless most looks knew it."""
        if 2 * self._held.total() <= self._looks:
            return None
        return self._held.most_common(1)[0][0]

    def close(self) -> None:
        """The span ends: read those once more of whom there was one look only."""
        for ident, looked in self._last.items():
            if looked is self._first[ident]:
                tid = number_of(ident)
                if tid is not None and (read := waited_so_far(tid)):
                    self._last[ident] = (*read, looked[2])

    def waited(self) -> tuple[float, float] | None:
        """The least and the largest share of its time that the holder waited for a CPU; None without two looks.

        For the time in which it is not known who held the lock, what any of them waited.
        """
        shares = [
            min(1.0, (last[1] - first[1]) / (last[0] - first[0]))
            for ident, last in self._last.items()
            if last[0] > (first := self._first[ident])[0]
        ]
        if not shares:
            return None
        once = len(shares) < len(self._last)  # of one that was seen once nothing is known
        low, high = 0.0 if once else min(shares), max(shares)
        if not self._held_ns:
            return low, high
        held_ns, waited_ns = self._held_ns, min(self._held_ns, self._waited_ns)
        looked_ns = max(last[0] for last in self._last.values()) - min(first[0] for first in self._first.values())
        unknown_ns = max(0, looked_ns - held_ns)
        whole_ns = held_ns + unknown_ns
        return (waited_ns + low * unknown_ns) / whole_ns, (waited_ns + high * unknown_ns) / whole_ns
