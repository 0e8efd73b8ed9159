"""Whether the disk takes what is written. A disk that is full must stop writing, and nothing else."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

#: What must be free for writing to be tried, in bytes.
_ROOM_BYTES = 2**20
#: How often it is looked, in seconds.
_LOOK_S = 1.0
_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_WORDS = tuple(os.strerror(number) for number in _ERRORS)


def disk_problem(problem: BaseException | None) -> str | None:
    """What the disk said, where this, or what it was raised over, is about the disk. DuckDB has it in texts only."""
    for _ in range(10):
        if problem is None:
            break
        if isinstance(problem, OSError) and problem.errno in _ERRORS:
            return os.strerror(problem.errno)
        if said := next((words for words in _WORDS if words in str(problem)), None):
            return said
        problem = problem.__cause__ or problem.__context__
    return None


def why_not_opened(folder: Path, problem: BaseException) -> str:
    """In a line why the store of this folder cannot be opened, and what to do where the disk is the reason."""
    if (said := disk_problem(problem)) is None:
        return f"the store in {folder} cannot be opened: {problem}"
    return (
        f"the store in {folder} cannot be opened, because nothing can be written there: {said}. "
        "Make room, or name another folder with --store DIR; what is stored stays as it is"
    )


class Disk:
    """What is known of the disk that a store's folder is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._looked = -_LOOK_S

    def failed(self, problem: BaseException) -> bool:
        """Note that something could not be written. False where the disk is not the reason."""
        said = disk_problem(problem)
        if said is None:
            return False
        with self._lock:
            self._problem, self._looked = said, time.monotonic()
        return True

    def worked(self) -> None:
        """Note that something was written."""
        self._problem = None

    def problem(self) -> str | None:
        """Why nothing can be written now; None where it can. Looks again every second."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_S:
                self._looked = time.monotonic()
                self._problem = self._look()
            said = self._problem
        return said and f"nothing can be written to the folder {self._folder}: {said}"

    def _look(self) -> str | None:
        """Try to take some room, where little is free or writing failed before."""
        probe = self._folder / "probe"
        try:
            room = os.statvfs(self._folder)
            if room.f_bavail * room.f_frsize < _ROOM_BYTES:
                return os.strerror(errno.ENOSPC)
            if self._problem is None:
                return None
            handle = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(handle, 0, _ROOM_BYTES)
            finally:
                os.close(handle)
        except OSError as problem:
            return problem.strerror
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return None
