"""How much memory this process may use, and a wall for the moments in which somebody else's query runs in it."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What DuckDB may use of the memory there is, and the bounds of that: with more than the most, a server that carries
#: thousands of spans a second is no quicker (``benchmarks/steady.py``), and no longer stays below 1 GiB.
SHARE, LEAST_BYTES, MOST_BYTES = 3, 256 * 2**20, 640 * 2**20

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_V2, _V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")


def default_bytes() -> int:
    """A third of the memory there is, at least 256 MiB and at most 640 MiB."""
    return max(LEAST_BYTES, min(MOST_BYTES, available_bytes() // SHARE))


def available_bytes(proc: Path = Path("/proc"), v1: Path = _V1, v2: Path = _V2) -> int:
    """The machine's memory, or the limit of this process's cgroup or of one above it, whichever is less.

    Source: ``MemTotal`` of /proc/meminfo; ``memory.limit_in_bytes`` (v1) and ``memory.max`` (v2). In a container
    /proc/self/cgroup may name a path of the machine, which is not there: then its own root has the limit.
    """
    found = [int(line.split()[1]) * 1024 for line in _lines(proc / "meminfo") if line.startswith("MemTotal:")]
    for line in _lines(proc / "self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            found += _limits(v2, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(v1, path, "memory.limit_in_bytes")
    return min(found, default=MOST_BYTES)


def resident_bytes() -> int:
    """How much memory this process has now. Source: the second figure of /proc/self/statm, in pages."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


_walls = 0
_walls_lock = threading.Lock()
_before: tuple[int, int] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def wall(more_bytes: int) -> Iterator[None]:
    """Until it is left, this process cannot have so much more memory than now: what asks for it fails.

    For what a single call asks for at once. Source: ``RLIMIT_AS``, getrlimit(2); the hard limit stays.
    """
    global _walls, _before
    with _walls_lock:
        _walls += 1
        if _walls == 1:
            _before = resource.getrlimit(resource.RLIMIT_AS)
            size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE_BYTES
            soft, hard = _before
            limit = size + more_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit if soft < 0 else min(soft, limit), hard))
    try:
        yield
    finally:
        with _walls_lock:
            _walls -= 1
            if _walls == 0:
                resource.setrlimit(resource.RLIMIT_AS, _before)


def _limits(root: Path, path: str, name: str) -> Iterator[int]:
    place = Path(path.strip().lstrip("/"))
    for folder in (place, *place.parents):
        for line in _lines(root / folder / name):
            if line.strip().isdecimal():  # v2 says "max" where there is no limit
                yield int(line)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
