"""Questions that take too long are cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from layerline_correlator.store.memory import resident_bytes

#: How often memory is looked at, in seconds.
_LOOK_S = 0.02


class TooHeavy(RuntimeError):
    """A question that took too long to answer; the message says how long."""


class TooBusy(RuntimeError):
    """A question that did not get its turn; the message says what it waited for."""


@contextmanager
def cut_off(cursor: duckdb.DuckDBPyConnection, patience_s: float, most_bytes: int | None = None) -> Iterator[None]:
    """Interrupt what runs on the cursor when it takes longer, or the process grows by more meanwhile. ``TooHeavy``."""
    done, over = threading.Event(), threading.Event()
    until_s = time.monotonic() + patience_s
    full_bytes = None if most_bytes is None else resident_bytes() + most_bytes

    def is_over() -> bool:
        return time.monotonic() >= until_s or (full_bytes is not None and resident_bytes() > full_bytes)

    def watch() -> None:
        while not done.wait(patience_s if most_bytes is None else _LOOK_S):
            while is_over() and not done.is_set():  # again and again: it may be between two statements
                over.set()
                cursor.interrupt()
                done.wait(0.05)

    watcher = threading.Thread(target=watch, name="layerline-patience", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        if not over.is_set():
            raise
        if time.monotonic() < until_s:
            raise TooHeavy(f"it took more memory than {most_bytes:,} bytes") from None
        raise TooHeavy(f"it took longer than {patience_s:g} s") from None
    finally:
        done.set()
        watcher.join()
