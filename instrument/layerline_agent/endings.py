"""The last reading of a container: when its last process has ended, and before its cgroup is removed.

Docker's die event comes too late for that: the cgroup is gone by then. A pidfd becomes readable when its process has
ended and has given back its memory; what the container's counters say then is what it used in its whole life. The
engine removes the cgroup some 10 to 100 ms later, so a thread of its own waits here and copies the files at once.
Sources: pidfd_open(2), Linux 5.3; cgroups(7). The kernel's exit records (taskstats) were not taken instead: they carry
no container, are written before the process gives back its memory, know nothing of the quota, and need CAP_NET_ADMIN.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from layerline_agent.files import most_endings
from layerline_agent.saying import failed

#: How much this thread goes before others where that is permitted (nice): it runs for 0.2 ms at the end of a container.
NICE = -10


@dataclass(frozen=True, slots=True)
class Ended:
    """The last process of a container has ended; what its files held then."""

    container_id: str
    time_ns: int
    """When they were read."""
    contents: Mapping[str, bytes | None]
    """By path; None for a file that is not there."""


@dataclass(frozen=True, slots=True)
class _Watched:
    container_id: str
    processes: str
    files: Sequence[str]


def _pids(path: str) -> list[int]:
    """The processes in a ``cgroup.procs`` that this process can name. OSError where the cgroup is gone."""
    with open(path, "rb") as file:
        return [pid for line in file if (pid := int(line))]


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


class Endings:
    """Waits for the ends of containers, from the first ``watch`` until ``close``."""

    def __init__(self, tell: Callable[[Ended], None], clock: Callable[[], int] = time.time_ns) -> None:
        """``tell`` is called from another thread."""
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}  # by pidfd
        self._pidfds: dict[str, int] = {}  # by container
        self._poll = select.epoll()
        self._wake, self._waker = os.pipe()
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread: threading.Thread | None = None

    def watch(self, container_id: str, processes: str, files: Sequence[str]) -> None:
        """Read ``files`` when the last process of this ``cgroup.procs`` has ended. Where none can be named, never."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="layerline-endings", daemon=True)
            self._thread.start()
        self.forget(container_id)
        if len(self._pidfds) >= most_endings():  # of the others the last reading before their end is known
            return
        with suppress(OSError):
            self._next(_Watched(container_id, processes, files))

    def forget(self, container_id: str) -> None:
        """It need not be waited for any more."""
        with self._lock:
            pidfd = self._pidfds.pop(container_id, -1)
            if self._watched.pop(pidfd, None) is not None:
                os.close(pidfd)  # which takes it out of the poll too

    def close(self) -> None:
        """End the thread and give the descriptors back."""
        os.close(self._waker)
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        for container_id in list(self._pidfds):
            self.forget(container_id)
        self._poll.close()
        os.close(self._wake)

    def _next(self, watched: _Watched) -> bool:
        """Wait for one of its processes; False where it has none (any more). OSError where the cgroup is gone."""
        for pid in _pids(watched.processes):
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                with self._lock:
                    self._watched[pidfd] = watched
                    self._pidfds[watched.container_id] = pidfd
                    self._poll.register(pidfd, select.EPOLLIN)
                return True
        return False

    def _run(self) -> None:
        with suppress(OSError):  # not permitted: then it goes beside the others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._wake:
                    return
                try:
                    self._ended(descriptor)
                except Exception as problem:  # it costs the last reading of this container
                    failed("reading the end of a container", problem)

    def _ended(self, descriptor: int) -> None:
        """The process of this pidfd has ended."""
        with self._lock:
            watched = self._watched.pop(descriptor, None)
            if watched is None:  # forgotten meanwhile
                return
            self._pidfds.pop(watched.container_id, None)
            os.close(descriptor)
        with suppress(OSError):  # the cgroup is gone already: the end of its counters stays unknown
            if not self._next(watched):
                self._read(watched)

    def _read(self, watched: _Watched) -> None:
        time_ns = self._clock()
        self._tell(Ended(watched.container_id, time_ns, {path: _content(path) for path in watched.files}))
