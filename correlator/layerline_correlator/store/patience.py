"""Questions that take too long are cut off; of a machine that is too busy to run them, the time is not theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import duckdb

from layerline_correlator.store.memory import resident_bytes

#: How often memory is looked at, and whether the client is still there, in seconds.
_LOOK_S, _CLIENT_S = 0.02, 0.25

#: A thread that has waited for less than that for a CPU, in seconds, says nothing of the machine.
_BUSY_S = 5.0

#: Says whether the client of the question that this thread answers has left; None where nobody can know.
client_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("client_has_left", default=None)


class TooHeavy(RuntimeError):
    """A question that was cut off; the message says why."""


class TooBusy(RuntimeError):
    """A question that did not get its turn; the message says what it waited for."""


def _stood_ready_s(thread: int) -> float:
    """How long this thread of ours has stood ready without a CPU so far; 0 where the kernel does not say.

    Source: ``/proc/self/task/TID/schedstat``, second figure, nanoseconds.
    """
    try:
        with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def cut_off(
    cursor: duckdb.DuckDBPyConnection,
    patience_s: float,
    most_bytes: int | None = None,
    longest_s: float | None = None,
) -> Iterator[None]:
    """Interrupt what runs on the cursor when it takes longer, or the process grows by more, or the client leaves.

    With ``longest_s``, time in which this thread stood ready without a CPU does not count, up to so long in all.
    ``TooHeavy``; ``TooBusy`` where it was cut off in time, but the thread had waited for a CPU for most of that.
    """
    done, why, busy = threading.Event(), "", False
    thread = threading.get_native_id()
    began_s, ready_s = time.monotonic(), _stood_ready_s(thread)
    until_s = began_s + patience_s
    full_bytes = None if most_bytes is None else resident_bytes() + most_bytes
    has_left = client_has_left.get()

    def reason() -> str:
        nonlocal until_s, busy
        if time.monotonic() >= until_s:
            waited_s = _stood_ready_s(thread) - ready_s
            if longest_s is not None:
                until_s = began_s + min(longest_s, patience_s + waited_s)
                if time.monotonic() < until_s - _LOOK_S:
                    return ""
            elif waited_s > max(patience_s / 2, _BUSY_S):
                busy = True
                return f"the machine is busy: of {patience_s:g} s, {waited_s:.0f} s were spent waiting for a CPU"
            return f"it took longer than {patience_s:g} s"
        if full_bytes is not None and resident_bytes() > full_bytes:
            return f"it took more memory than {most_bytes:,} bytes"
        return "nobody waits for the answer any more" if has_left is not None and has_left() else ""

    def watch() -> None:
        nonlocal why
        look_s = _CLIENT_S if full_bytes is None else _LOOK_S
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            if done.wait(min(look_s, left_s) if has_left or full_bytes else left_s):
                return
            why = reason()
            while why and not done.is_set():  # again and again: it may be between two statements
                cursor.interrupt()
                done.wait(0.05)

    watcher = threading.Thread(target=watch, name="layerline-patience", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        if not why:
            raise
        raise (TooBusy if busy else TooHeavy)(why) from None
    finally:
        done.set()
        watcher.join()
