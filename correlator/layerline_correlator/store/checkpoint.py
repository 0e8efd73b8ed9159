"""When the database takes what is in its log into its file: when the log is long, and when there is room for it.

DuckDB does it by itself while something is committed, and when the disk is full then, the whole database is invalid
until it is opened again: no answers, on a disk on which everything could be read. So it is told to leave it to us.

A result of which a row was left unread keeps its transaction open, on its cursor, and no log is emptied until it ends.
So cursors that stay open read all rows (``fetchall``), and a checkpoint that waits for such a one is given up.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import duckdb

from layerline_correlator.store.patience import TooBusy, TooHeavy, cut_off
from layerline_correlator.store.version import DATABASE

_log = logging.getLogger("layerline.store")

#: How long the log may become, and from when on it is not put off because others are writing, in bytes.
LOG_BYTES, LONG_LOG_BYTES = 256 * 2**20, 512 * 2**20
#: How often it is looked, in seconds.
LOOK_S = 1.0
#: For how long others are held up by one that waits until they have ended, and when that is tried again, in seconds.
FORCED_S, FORCED_AGAIN_S = 5.0, 60.0
#: Room that must be free: blocks that change are written anew, beside what the log holds.
_ROOM_FOR_EACH, _ROOM_BYTES = 2, 16 * 2**20


class Checkpoints:
    """Keeps the log of a folder's database short. Owned by the thread that writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / f"{DATABASE}.wal"
        self._forced_again_s = 0.0

    def make(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Empty the log where that is due and possible; where it is not it is due again."""
        size = self._size()
        if size < LOG_BYTES or not self._has_room(size):
            return
        try:
            if size >= LONG_LOG_BYTES and time.monotonic() >= self._forced_again_s:
                self._forced_again_s = time.monotonic() + FORCED_AGAIN_S
                with cut_off(cursor, FORCED_S):
                    cursor.execute("FORCE CHECKPOINT").fetchall()
            else:
                cursor.execute("CHECKPOINT").fetchall()
        except duckdb.TransactionException:  # others are writing
            return
        except (TooHeavy, TooBusy) as problem:
            _log.error("the log of the database in %s is %d MiB long: %s", self._folder, size >> 20, problem)
        except duckdb.Error as problem:
            _log.error("the log of the database in %s could not be emptied: %s", self._folder, problem)

    def before_close(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Closing empties the log, too: not where there is no room. It is read when the store is opened."""
        if not self._has_room(self._size()):
            with suppress(duckdb.Error):
                cursor.execute("PRAGMA disable_checkpoint_on_shutdown").fetchall()

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:  # there is none
            return 0

    def _has_room(self, size: int) -> bool:
        try:
            free = os.statvfs(self._folder)
        except OSError:
            return False
        return free.f_bavail * free.f_frsize >= _ROOM_FOR_EACH * size + _ROOM_BYTES
