"""A kernel file that is read again and again, without giving the interpreter lock away.

It is kept open and read in place, as long as all that are kept open take no more than an eighth of the descriptors that
the process may have: they are the application's. Beyond that a file is opened for each reading, which takes 4 µs
instead of 2, and one descriptor at a time.

``os.pread`` lets other threads run while it reads. For a file of ``/proc`` that takes half a microsecond, and then it
stands in line for the interpreter again: in a busy server of several threads each read handed the turn to another
thread, which may keep it for 5 ms. That cost 40 µs a span and changed what was measured. So the C library is called
through ``ctypes.PyDLL``, which keeps the lock. Where ctypes is missing, ``os`` does it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import Any, Final

try:
    import ctypes

    _libc: Any = ctypes.PyDLL(None)
    _pread, _open, _close = _libc.pread, _libc.open, _libc.close
    _pread.restype = ctypes.c_ssize_t  # its arguments are made once a file: converting them took a quarter of a read
    _open.argtypes = (ctypes.c_char_p, ctypes.c_int)
    _close.argtypes = (ctypes.c_int,)
except (ImportError, OSError, AttributeError):  # pragma: no cover - a Python built without ctypes
    _libc = None

#: ``layerline._fast``, where there is one: a reading takes half of the time (``layerline.fast`` puts it here).
_extension: Any = None

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC
#: Of the descriptors that a process may have (``ulimit -n``), the share that is ours, and the most that we take.
_SHARE: Final = 8
_MOST: Final = 4_096


def use(extension: Any) -> None:
    """Read by ``layerline._fast`` from now on."""
    global _extension
    _extension = extension


class Kept:
    """How many files are kept open in this process."""

    files = 0


def room() -> bool:
    """Whether one more file may be kept open."""
    soft, _ = getrlimit(RLIMIT_NOFILE)  # each time: an application may set it
    return Kept.files < (_MOST if soft == RLIM_INFINITY else min(_MOST, soft // _SHARE))


def out_of_descriptors(problem: BaseException) -> bool:
    """Whether a file could not be opened because this process, or the machine, has too many open."""
    return isinstance(problem, OSError) and problem.errno in (errno.EMFILE, errno.ENFILE)


class File:
    """One file. ``read`` returns its content now, up to the size given."""

    __slots__ = ("_arguments", "_buffer", "_path", "_raw_path", "_size", "fd")

    def __init__(self, path: str, size: int = 64) -> None:
        """Raises OSError if it cannot be opened."""
        self.fd = -1
        self._path = path
        self._raw_path = os.fsencode(path)
        self._size = size
        fd = self._open()
        if room():
            self.fd = fd
            Kept.files += 1
        else:
            close(fd)
        if _libc is not None:
            self._buffer = ctypes.create_string_buffer(size)
            self._arguments = (ctypes.c_int(self.fd), self._buffer, ctypes.c_size_t(size), ctypes.c_long(0))

    def _open(self) -> int:
        """A descriptor of it. Raises OSError if there is none."""
        fd: int = _open(self._raw_path, _FLAGS) if _libc is not None else -1
        return fd if fd >= 0 else os.open(self._path, _FLAGS)  # raises what is wrong

    def read(self) -> bytes:
        """What it says now. Raises OSError if it cannot be read: its thread is gone, pressure is switched off."""
        if self.fd < 0:
            return self._read_anew()
        if _extension is not None and (whole := _extension.read(self.fd, self._size)) is not None:
            return whole  # type: ignore[no-any-return]
        if _libc is None:
            return os.pread(self.fd, self._size, 0)
        length = _pread(*self._arguments)
        if length < 0:
            return os.pread(self.fd, self._size, 0)  # raises what is wrong
        raw: bytes = self._buffer.raw
        return raw[:length]

    def _read_anew(self) -> bytes:
        """The same, for a file that is not kept open."""
        if not self._raw_path:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path)  # it was closed
        fd = self._open()
        try:
            if _libc is None:
                return os.pread(fd, self._size, 0)
            length = _pread(fd, *self._arguments[1:])
            if length < 0:
                return os.pread(fd, self._size, 0)  # raises what is wrong
            raw: bytes = self._buffer.raw
            return raw[:length]
        finally:
            close(fd)

    def close(self) -> None:
        """Close it, if it is still ours: an application may have closed all descriptors, and reused the number."""
        fd, self.fd = self.fd, -1
        self._raw_path = b""
        if fd < 0:
            return
        Kept.files -= 1
        if _libc is not None:
            self._arguments[0].value = -1
        try:
            shown = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return
        if os.path.basename(shown) == os.path.basename(self._path):
            close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end modules may be gone
            self.close()


def close(fd: int) -> None:
    """Close a descriptor."""
    if _libc is not None:
        _close(fd)
    else:
        os.close(fd)
