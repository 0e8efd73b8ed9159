"""A cgroup whose processes are ended by the kernel when they need more memory than they may (as root)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20
#: How long a cgroup is given to become empty (s).
EMPTY_S = 5.0


@dataclass(frozen=True, slots=True)
class Bound:
    """The cgroup's folder, in the memory controller of cgroup v1 or in the unified hierarchy."""

    folder: Path

    def take(self, pid: int) -> None:
        """From now on that process and its children are in it. OSError where it has ended."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many of its processes the kernel has ended for their memory."""
        for name in ("memory.events", "memory.oom_control"):
            if (path := self.folder / name).exists():
                counts = dict(line.split() for line in path.read_text().splitlines())
                return int(counts.get("oom_kill", 0))
        return 0


@contextmanager
def bound(mib: int, root: Path = CGROUPS) -> Iterator[Bound]:
    """Make one, and remove it. OSError where none can be made: not root, or no memory controller."""
    above = root / "memory" if (root / "memory" / "memory.limit_in_bytes").exists() else root
    folder = above / f"layerline-bound-{os.getpid()}"
    folder.mkdir()
    try:
        # Without swap a process cannot have more by being slow. Where the kernel counts no swap the file is not there.
        for name, value in (
            ("memory.limit_in_bytes", mib * MIB), ("memory.memsw.limit_in_bytes", mib * MIB),
            ("memory.max", mib * MIB), ("memory.swap.max", 0),
        ):  # fmt: skip
            if (folder / name).exists():
                (folder / name).write_text(str(value))
        yield Bound(folder)
    finally:
        until = time.monotonic() + EMPTY_S
        while folder.exists() and time.monotonic() < until:
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)
