"""What one look at a thread means: its kind, and the line of the app that it stands at.

Kinds are read from the kernel state and the wait channel, the kernel function that the thread sleeps in. Names of
channels differ between kernels (``futex_wait_queue_me``, ``futex_do_wait``), so parts of names are matched.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Final

#: Parts of wait channels, first match decides.
_CHANNELS: Final = (
    ("lock", ("futex",)),
    ("sleep", ("nanosleep", "common_nsleep")),
    (
        "socket",
        (
            "sk_wait", "wait_woken", "poll", "select", "inet_csk_accept", "pipe", "unix_stream", "skb_", "sock",
            "inet_wait_for_connect", "sk_stream", "tcp_", "unix_dgram", "unix_wait",
        ),
    ),
    ("disk", ("folio_wait", "wait_on_page", "io_schedule", "jbd2", "wait_on_buffer", "submit_bio", "blk_")),
)  # fmt: skip
#: An uninterruptible sleep (state D) that is not for a disk.
_NOT_DISK: Final = ("rwsem", "mutex", "vfork", "clone", "rcu", "percpu")

#: Who waits for a connection or a thread of a pool: the end of a file's path, and its functions (none: any).
_POOLS: Final = (
    ("sqlalchemy/util/queue.py", ()),
    ("sqlalchemy/pool/impl.py", ()),
    ("psycopg_pool/pool.py", ()),
    ("psycopg2/pool.py", ()),
    ("urllib3/connectionpool.py", ("_get_conn",)),
    ("redis/connection.py", ("get_connection",)),
    ("pymongo/synchronous/pool.py", ("_get_conn",)),
    ("concurrent/futures/_base.py", ("result", "exception", "wait", "as_completed")),
    ("multiprocessing/pool.py", ("wait", "get")),
)
_POOL_FRAMES: Final = 12
_DEEPEST: Final = 200

_OURS: Final = os.path.dirname(__file__) + os.sep
_paths = sysconfig.get_paths()
#: Code under these folders is not the app's: the standard library, and the scripts that servers are started by.
_FOREIGN: Final = (
    _OURS,
    "<frozen ",
    os.path.join(os.path.dirname(os.__file__), ""),
    *(os.path.join(_paths[name], "") for name in ("stdlib", "platstdlib", "scripts") if name in _paths),
)

_KNOWN_AT_MOST: Final = 4096  # code made at run time must not pile up here
_own: dict[CodeType, bool] = {}


def kind(state: str, wait: str) -> str:
    """What a thread in this state does; ``lock`` for every futex, whoever waits at it."""
    if state == "R":
        return "cpu"  # on a CPU, or ready for one
    if state == "D":
        return "other" if any(part in wait for part in _NOT_DISK) else "disk"
    if state == "S":
        for found, parts in _CHANNELS:
            if any(part in wait for part in parts):
                return found
    return "other"


def waits_in_pool(frame: FrameType) -> bool:
    """Whether one of the innermost frames is a known pool's, at the function that waits."""
    each: FrameType | None = frame
    for _ in range(_POOL_FRAMES):
        if each is None:
            return False
        code = each.f_code
        for file, functions in _POOLS:
            if code.co_filename.endswith(file) and (not functions or code.co_name in functions):
                return True
        each = each.f_back
    return False


def place(frame: FrameType) -> str:
    """``function file:line`` of the innermost frame that is the app's own, else of the innermost."""
    each: FrameType | None = frame
    for _ in range(_DEEPEST):
        if each is None:
            break
        if is_own(each.f_code):
            frame = each
            break
        each = each.f_back
    return _named(frame)


def place_of(frames: Sequence[FrameType]) -> str:
    """The same of coroutines that await each other, which are no callers of each other: frames from outside to inside.

    IndexError without frames.
    """
    return _named(next((frame for frame in reversed(frames) if is_own(frame.f_code)), frames[-1]))


def _named(frame: FrameType) -> str:
    code = frame.f_code
    line = frame.f_lineno or code.co_firstlineno
    function = "_".join(code.co_qualname.split()) or "-"
    return f"{function} {' '.join(code.co_filename.splitlines())}:{line}"


def has_own(frame: FrameType) -> bool:
    """Whether code of the app's own is anywhere in the stack."""
    each: FrameType | None = frame
    for _ in range(_DEEPEST):
        if each is None:
            return False
        if is_own(each.f_code):
            return True
        each = each.f_back
    return False


def is_own(code: CodeType) -> bool:
    """Whether code is the app's own: neither ours, nor the standard library's, nor installed."""
    own = _own.get(code)
    if own is None:
        if len(_own) >= _KNOWN_AT_MOST:
            _own.clear()
        file = code.co_filename
        own = not (file.startswith(_FOREIGN) or "/site-packages/" in file or "/dist-packages/" in file)
        _own[code] = own
    return own
