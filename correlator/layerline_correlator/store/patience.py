"""Questions that take too long are cut off."""

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

#: Says whether the client of the question that this thread answers has left; None where nobody can know.
client_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("client_has_left", default=None)


class TooHeavy(RuntimeError):
    """A question that was cut off; the message says why."""


class TooBusy(RuntimeError):
    """A question that did not get its turn; the message says what it waited for."""


@contextmanager
def cut_off(cursor: duckdb.DuckDBPyConnection, patience_s: float, most_bytes: int | None = None) -> Iterator[None]:
    """Interrupt what runs on the cursor when it takes longer, or the process grows by more, or the client leaves.

    ``TooHeavy``.
    """
    done, why = threading.Event(), ""
    until_s = time.monotonic() + patience_s
    full_bytes = None if most_bytes is None else resident_bytes() + most_bytes
    has_left = client_has_left.get()

    def reason() -> str:
        if time.monotonic() >= until_s:
            return f"it took longer than {patience_s:g} s"
        if full_bytes is not None and resident_bytes() > full_bytes:
            return f"it took more memory than {most_bytes:,} bytes"
        return "nobody waits for the answer any more" if has_left is not None and has_left() else ""

    def watch() -> None:
        nonlocal why
        look_s = _CLIENT_S if full_bytes is None else _LOOK_S
        while not done.wait(
            min(look_s, max(0.0, until_s - time.monotonic())) if has_left or full_bytes else patience_s
        ):
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
        raise TooHeavy(why) from None
    finally:
        done.set()
        watcher.join()
