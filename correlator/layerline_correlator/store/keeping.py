"""Looks after a store while it is used: seals hours that are no longer hot, rolls old ones up, deletes rows of series
and senders of which nothing is left, and measures what everything takes.

It works on a cursor and a thread of its own, an hour at a time with a pause after each, and nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
import time

import duckdb

from layerline_correlator.settings import Rule
from layerline_correlator.store.rollup import due_for_rollup, roll_up
from layerline_correlator.store.sealed import NoRoomToSeal, due, seal
from layerline_correlator.store.sizes import read_sizes
from layerline_correlator.store.store import Store
from layerline_correlator.store.unused import delete_unused

_log = logging.getLogger("layerline.store")

#: How often it looks for an hour to seal, and how often sizes are measured, in seconds.
_LOOK_S, _MEASURE_S = 60.0, 600.0
#: Once retention deleted something: how often unused rows are looked for at most, and the pause after each step, in
#: seconds.
_UNUSED_S, _PAUSE_S = 3600.0, 0.1


class Keeping:
    """Keeps one store in shape."""

    def __init__(self, store: Store, hot_ns: int, settle_ns: int, rollup: tuple[Rule, ...] = ()) -> None:
        """``start`` begins; ``hot_ns`` is how long an hour stays hot after its end; ``settle_ns`` as in ``due``."""
        self._store, self._hot_ns, self._settle_ns, self._rollup = store, hot_ns, settle_ns, rollup
        self._cursor = store.cursor()
        self._one_at_a_time = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: Rows of series and senders that were deleted.
        self.deleted_rows = 0
        self._retained_ns: int | None = None

    def change(self, hot_ns: int, rollup: tuple[Rule, ...]) -> None:
        """From now on hours are packed and made coarser at these ages."""
        self._hot_ns, self._rollup = hot_ns, rollup

    def start(self) -> None:
        """Look after it from now on."""
        self._thread = self._store.threads.start("layerline-keeping", self._run)

    def stop(self) -> None:
        """Begin nothing more; what is being sealed is cut off, and sealed after the next start."""
        self._stopped.set()

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def seal_all(self, now_ns: int | None = None) -> int:
        """Seal every hour that is no longer hot, now. Returns how many those were."""
        sealed = 0
        while self._seal_one(time.time_ns() if now_ns is None else now_ns):
            sealed += 1
        return sealed

    def roll_up_all(self, now_ns: int | None = None) -> int:
        """Roll up every hour that is old enough, now. Returns how many those were."""
        rolled = 0
        while self._roll_up_one(time.time_ns() if now_ns is None else now_ns):
            rolled += 1
        return rolled

    def retained(self, before_ns: int) -> None:
        """What is older was deleted: rows of series and senders may be unused now."""
        self._retained_ns = before_ns

    def delete_unused(self) -> None:
        """Delete rows of series and senders that nothing refers to any more, if retention deleted anything."""
        before_ns = self._retained_ns
        if before_ns is None:
            return
        with self._one_at_a_time:
            self.deleted_rows += delete_unused(
                self._store, self._cursor, before_ns, lambda: not self._stopped.wait(_PAUSE_S)
            )
        self._retained_ns = None if self._retained_ns == before_ns else self._retained_ns

    def measure(self) -> None:
        """Measure what everything takes: ``Store.measured``."""
        with self._store.cursor() as cursor:
            self._store.measured = read_sizes(cursor, self._store.folder)

    def _run(self) -> None:
        measured_s = time.monotonic() - _MEASURE_S
        unused_s = time.monotonic() - _UNUSED_S
        while not self._stopped.wait(_LOOK_S):
            try:
                self._store.cores.let_go()
                self._store.unnamed.remove_old(self._cursor, self._store.folder)
                if self._store.disk.problem() is None:
                    if not self._seal_one(time.time_ns()):
                        self._roll_up_one(time.time_ns())
                    if time.monotonic() - unused_s >= _UNUSED_S and self._retained_ns is not None:
                        unused_s = time.monotonic()
                        self.delete_unused()
                if time.monotonic() - measured_s >= _MEASURE_S:
                    measured_s = time.monotonic()
                    self.measure()
            except NoRoomToSeal as problem:
                _log.warning("an hour could not be sealed: %s", problem)
            except Exception as problem:  # what could not be done is still to be done
                if self._stopped.is_set():
                    return
                if not isinstance(problem, duckdb.TransactionException) and not self._store.disk.failed(problem):
                    self._store.threads.failed("layerline-keeping", problem)

    def _seal_one(self, now_ns: int) -> bool:
        """Seal the oldest hour that is due. False where there is none; a recording is old by its nature and stays."""
        with self._one_at_a_time:
            if self._store.is_recording():
                return False
            hours = due(self._cursor, self._hot_ns, now_ns, self._settle_ns)
            if hours:
                self._store.unnamed.add(seal(self._cursor, self._store.folder, hours[0]))
            return bool(hours)

    def _roll_up_one(self, now_ns: int) -> bool:
        """Roll up the oldest hour that is due. False where there is none."""
        with self._one_at_a_time:
            if self._store.is_recording():
                return False
            hours = due_for_rollup(self._cursor, self._rollup, now_ns)
            if hours:
                self._store.unnamed.add(roll_up(self._cursor, self._store.folder, hours[0]))
            return bool(hours)
