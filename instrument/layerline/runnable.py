"""How many wanted to run: the sum of on-CPU and ready time over the container's threads.

Divided by the length of a window it is the mean number of runnable threads, by which the container's throttled time,
a sum over CPUs, is divided before a request is charged with it.

Source: ``/proc/<pid>/task/<tid>/schedstat``, fields 1 + 2 (ns), of the processes in the container's own cgroup
(``cgroup.procs``), or of all that can be seen where that is out of reach; outside containers of this process. Field 1
lags by up to a tick (4 ms) for a thread that runs just now.

The wrapper's own threads are left out, those of other processes too (``layerline.own``): they stand in the run queue
during a quota's pause, and counted, one busy thread looked like several.

Bounded cost: one sum serves all requests for a while that grows with the number of threads (a thread takes 2 to 4 µs;
together at most 1 % of a core), and is scaled to the window asked for. Above 64 threads there is no answer. New threads
are looked for at most every 100 ms; one of this process that opens a span is known at once.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layerline.cgroup import UNIFIED, Cgroup
from layerline.kernel import File
from layerline.own import is_ours

_MOST_THREADS: Final = 64
_LOOK_NS: Final = 100_000_000
_SPACE_NS: Final = 2_000_000
_SPACE_PER_THREAD_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """The sum so far, since this process began to count."""

    at: int  # ns, UTC
    total: int  # ns


class Runnable:
    """Keeps the sum for one container. All threads of the process share it; one at a time reads."""

    def __init__(self, cgroup: Cgroup | None) -> None:
        """``cgroup`` of the container; None counts this process alone."""
        self._proc = (cgroup.root if cgroup is not None else Path("/")) / "proc"
        self._cgroup = cgroup
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[tuple[int, int], tuple[File, int]] = {}  # (pid, tid) → file, last value
        self._ours: set[tuple[int, int]] = set()
        self._unsure: set[tuple[int, int]] = set()  # new at the last look; ours are named after they began
        self._pid = os.getpid()
        self._total = 0
        self._looked = 0
        self._last: Reading | None = None
        self._before: Reading | None = None
        self._procs: Path | None = None
        if self._cgroup is not None:
            folder = self._cgroup.folder(UNIFIED) or self._cgroup.folder("cpu")
            self._procs = folder / "cgroup.procs" if folder is not None else None

    def before(self, now: int, window: int = 0) -> Reading | None:
        """A reading not much older than ``now``; at the end of a long ``window`` (ns) the more so."""
        last = self._last
        if last is not None:
            space = _SPACE_NS + _SPACE_PER_THREAD_NS * len(self._threads)
            if window >= space:
                space = min(space, max(space // 4, window // 10))
            if 0 <= now - last.at < space:
                return last
        return self._read(now)

    def gained(self, begun: Reading | None, start: int, end: int) -> int | None:
        """The growth between ``start`` and ``end`` (ns), scaled from the readings nearest to them; None if unknown."""
        if begun is None:
            return None
        last = self.before(end, end - start)
        if last is None:
            return None
        if last.at <= begun.at:  # too short a window for a reading of its own: at the pace of the last
            if self._before is None or self._before.at >= last.at:
                last = self._read(end)
                if last is None or last.at <= begun.at:
                    return None
            else:
                begun = self._before
        return max(0, (last.total - begun.total) * max(0, end - start) // (last.at - begun.at))

    def met(self, tid: int) -> None:
        """Count that thread of this process from now on."""
        with self._lock:
            if self._looked and len(self._threads) <= _MOST_THREADS:
                self._add(self._pid, tid, 0)

    def forked(self) -> None:
        """In a forked child: files of our own; whoever held the lock is not here."""
        for file, _ in self._threads.values():
            file.close()
        self._start()

    def _read(self, now: int) -> Reading | None:
        """Take the sum anew, unless somebody else is about it: then theirs will do."""
        if not self._lock.acquire(blocking=False):
            return self._last
        try:
            if now - self._looked >= _LOOK_NS or now < self._looked:
                self._look(now)
            if len(self._threads) > _MOST_THREADS:
                self._before = self._last = None
                return None
            total = self._total
            gone = []
            for key, (file, value) in self._threads.items():
                try:
                    new = value_of(file)
                except (OSError, ValueError, IndexError):
                    gone.append(key)
                    continue
                if new > value:
                    total += new - value
                    self._threads[key] = (file, new)
            for key in gone:
                self._threads.pop(key)[0].close()
            self._total = total
            self._before = self._last
            self._last = Reading(now, total)
            return self._last
        finally:
            self._lock.release()

    def _look(self, now: int) -> None:
        """Find threads that are new. What they have done so far they did since we looked last."""
        passed = now - self._looked if self._looked else 0
        seen: set[tuple[int, int]] = set()
        for pid in self._pids():
            try:
                tids = os.listdir(f"{self._proc}/{pid}/task")
            except OSError:
                continue
            seen.update((pid, int(tid)) for tid in tids)
            if len(seen) > _MOST_THREADS:
                break
        unsure, self._unsure = self._unsure, set()
        self._ours &= seen
        self._ours.update(key for key in unsure & seen if is_ours(self._proc, *key))
        for key in self._threads.keys() - (seen - self._ours):
            self._threads.pop(key)[0].close()
        for pid, tid in seen - self._ours:
            if len(self._threads) > _MOST_THREADS:
                break
            if (pid, tid) not in self._threads:
                self._unsure.add((pid, tid))
                if is_ours(self._proc, pid, tid):
                    self._ours.add((pid, tid))
                else:
                    self._add(pid, tid, passed)
        self._looked = now

    def _add(self, pid: int, tid: int, most: int) -> None:
        """Open a thread's file; up to ``most`` of what it shows counts as new."""
        if (pid, tid) in self._threads:
            return
        try:
            file = File(f"{self._proc}/{pid}/task/{tid}/schedstat")
            value = value_of(file)
        except (OSError, ValueError, IndexError):
            return
        self._threads[(pid, tid)] = (file, value)
        self._total += min(value, most)

    def _pids(self) -> list[int]:
        """The processes whose threads count. Pid 0 stands for one that our pid namespace does not show."""
        if self._cgroup is None:
            return [self._pid]
        if self._procs is not None:
            try:
                return [int(pid) for pid in self._procs.read_text(encoding="ascii").split() if pid != "0"]
            except (OSError, ValueError):
                return [self._pid]
        return [int(name) for name in os.listdir(self._proc) if name.isdecimal()]


def value_of(file: File) -> int:
    """On-CPU and ready time of a thread so far (ns)."""
    fields = file.read().split()
    return int(fields[0]) + int(fields[1])
