"""Kernel files, kept open between readings: opening costs four times what reading does."""

from __future__ import annotations

import errno
import os
import resource

#: A file that is not there, or not any more: ENODEV is what the open file of a removed cgroup answers, ESRCH that of an
#: ended process, EOPNOTSUPP a pressure file where the kernel was booted with psi=0.
ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.EOPNOTSUPP, errno.ESRCH})

#: The kernel hands long files over in pieces that end with a line, at about a page: a shorter answer is all there is.
PAGE_BYTES = 4096
WHOLE_BYTES = PAGE_BYTES // 2

#: Of all descriptors, the share that files may keep, and the share for waiting for the ends of containers (endings.py).
#: The rest is left to everything else: without it, nothing could be read at all, and nothing sent.
KEPT_SHARE, ENDINGS_SHARE = 0.5, 0.25

MOST_FILES = 65536


class File:
    """One kernel file. Where no descriptor is left to spare, it is opened for each reading."""

    __slots__ = ("_descriptor", "path")

    _kept = 0
    _most = int(1024 * KEPT_SHARE)

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    def read(self) -> bytes | None:
        """All of it; None where it is not there. OSError where it is there and cannot be read."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                File._kept += 1
            content = os.pread(self._descriptor, PAGE_BYTES, 0)
            if len(content) >= WHOLE_BYTES:
                while more := os.pread(self._descriptor, 16 * PAGE_BYTES, len(content)):
                    content += more
        except OSError as problem:
            self.close()
            if problem.errno in ABSENT:
                return None
            raise
        if File._kept > File._most:
            self.close()
        return content

    def close(self) -> None:
        """Give the descriptor back; a later reading opens the file again, by its path."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            File._kept -= 1

    @classmethod
    def keep_many(cls) -> None:
        """Keep as many open as this process may: a hundred containers need 1,600, the usual limit is 1,024."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        cls._most = int(max(soft, wanted) * KEPT_SHARE)


def most_endings() -> int:
    """How many containers may have a descriptor that tells of their end."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(ENDINGS_SHARE * (MOST_FILES if soft == resource.RLIM_INFINITY else soft))
