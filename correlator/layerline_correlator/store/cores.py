"""How many threads the database works with: one while little happens, all that it likes while there is much to do.

DuckDB wakes a second thread for each statement, however small: on a quiet machine that was a tenth of what the server
cost. One thread more is there at once. To do with fewer waits until what runs has ended, so only who can wait lets go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from math import inf

import duckdb

_log = logging.getLogger("layerline.store")

#: All threads are kept for so long after there was last much to do, in seconds.
KEPT_S = 60.0


class Cores:
    """The threads of one database. Safe for threads."""

    def __init__(self, database: duckdb.DuckDBPyConnection, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with one."""
        self._database, self._clock = database, clock
        self._turning = threading.Lock()
        with database.cursor() as cursor:
            ((most,),) = cursor.execute("SELECT current_setting('threads')").fetchall()
        self._most = int(most)
        self._now, self._wanted_s = self._most, -inf
        self.let_go()

    @property
    def now(self) -> int:
        """With how many it works."""
        return self._now

    def want(self) -> None:
        """There is much to do, or somebody waits for an answer: work with all of them, for a while."""
        self._wanted_s = self._clock()
        self._turn()

    def let_go(self) -> None:
        """Work with one again, where nobody wanted more lately. May wait for what runs."""
        self._turn()

    def _turn(self) -> None:
        if self._now == self._needed() or not self._turning.acquire(blocking=False):
            return  # who is at it looks once more afterwards
        try:
            while (threads := self._needed()) != self._now:
                with self._database.cursor() as cursor:
                    cursor.execute(f"SET threads = {int(threads)}").fetchall()
                self._now = threads
        except duckdb.Error as problem:  # it works with as many as before
            _log.warning("the database still works with %d threads: %s", self._now, problem)
        finally:
            self._turning.release()

    def _needed(self) -> int:
        return self._most if self._clock() - self._wanted_s < KEPT_S else 1
