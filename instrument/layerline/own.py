"""The wrapper's own threads: they are named, so that nobody takes them for the app's.

The watcher and the exporters wake up by themselves, also while the container is stopped by its CPU quota. They then
stand in the run queue without having anything to do with a request. A container may hold several processes with a
wrapper each, so a list kept in this process would not do: the name in the kernel is visible to all of them, and to
``top`` and ``ps -L`` as well.

Source: ``/proc/<pid>/task/<tid>/comm`` (man 5 proc), at most 15 bytes, writable by threads of the same process.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

#: What the names of our threads begin with.
MARK: Final = "layerline-"


def name(tid: int | None, what: str) -> None:
    """Name a thread of this process ``layerline-<what>``; at most five letters fit. Where it cannot be, it stays."""
    if tid is not None:
        with contextlib.suppress(OSError):
            Path(f"/proc/self/task/{tid}/comm").write_text(MARK + what, encoding="ascii")


def is_ours(proc: Path, pid: int, tid: int) -> bool:
    """Whether that thread is a wrapper's, of this process or of another. One whose name cannot be read is not."""
    try:
        with open(f"{proc}/{pid}/task/{tid}/comm", "rb", buffering=0) as file:
            return file.read().startswith(MARK.encode())
    except OSError:
        return False
