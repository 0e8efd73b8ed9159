"""A kernel file that is kept open and read in place, without giving the interpreter lock away.

``os.pread`` lets other threads run while it reads. For a file of ``/proc`` that takes half a microsecond, and then it
stands in line for the interpreter again: in a busy server of several threads each read handed the turn to another
thread, which may keep it for 5 ms. That cost 40 µs a span and changed what was measured. So the C library is called
through ``ctypes.PyDLL``, which keeps the lock. Where ctypes is missing, ``os`` does it.
"""

from __future__ import annotations

import contextlib
import os
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

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC


class File:
    """One open file. ``read`` returns its content now, up to the size given."""

    __slots__ = ("_arguments", "_buffer", "_path", "_size", "fd")

    def __init__(self, path: str, size: int = 64) -> None:
        """Open it. Raises OSError if that cannot be done."""
        self.fd = -1
        self._path = path
        self._size = size
        self.fd = _open(os.fsencode(path), _FLAGS) if _libc is not None else -1
        if self.fd < 0:
            self.fd = os.open(path, _FLAGS)  # raises what is wrong
        if _libc is not None:
            self._buffer = ctypes.create_string_buffer(size)
            self._arguments = (ctypes.c_int(self.fd), self._buffer, ctypes.c_size_t(size), ctypes.c_long(0))

    def read(self) -> bytes:
        """What it says now. Raises OSError if it cannot be read: its thread is gone, pressure is switched off."""
        if _libc is None:
            return os.pread(self.fd, self._size, 0)
        length = _pread(*self._arguments)
        if length < 0:
            return os.pread(self.fd, self._size, 0)  # raises what is wrong
        raw: bytes = self._buffer.raw
        return raw[:length]

    def close(self) -> None:
        """Close it, if it is still ours: an application may have closed all descriptors, and reused the number."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if _libc is not None:
            self._arguments[0].value = -1
        try:
            shown = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return
        if os.path.basename(shown) == os.path.basename(self._path):
            if _libc is not None:
                _close(fd)
            else:
                os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end modules may be gone
            self.close()
