"""Questions that take too long are cut off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


class TooHeavy(RuntimeError):
    """A question that took too long to answer; the message says how long."""


class TooBusy(RuntimeError):
    """A question that did not get its turn; the message says what it waited for."""


@contextmanager
def cut_off(cursor: duckdb.DuckDBPyConnection, patience_s: float) -> Iterator[None]:
    """Interrupt what runs on the cursor when it takes longer. ``TooHeavy``."""
    done, over = threading.Event(), threading.Event()

    def watch() -> None:
        waited = done.wait(patience_s)
        while not waited:  # again and again: it may be between two statements
            over.set()
            cursor.interrupt()
            waited = done.wait(0.05)

    watcher = threading.Thread(target=watch, name="layerline-patience", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        if not over.is_set():
            raise
        raise TooHeavy(f"it took longer than {patience_s:g} s") from None
    finally:
        done.set()
        watcher.join()
