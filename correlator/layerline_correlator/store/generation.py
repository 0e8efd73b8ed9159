"""Which state the store is in, in a word: the same word twice means that nothing was written in between.

Every commit (by intake, ledgers, incidents, monitors or retention) goes into the database's log before it
can be seen, and the log into the database's file. So size and time of these two files say whether something was
written, for the price of two system calls, and nobody who writes has to think of it.

A commit is in the log before others see it: a moment, or as long as a disk takes to say that it is durable. So there
is no word for a state that is younger than a minute.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from layerline_correlator.store.version import DATABASE

#: For so long nothing must have been written, in nanoseconds.
QUIET_NS = 60 * 10**9


class Generation:
    """Looks at the files of one store. Another process has other words."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / DATABASE, folder / f"{DATABASE}.wal"
        self._process = secrets.token_hex(6)

    def word(self) -> str | None:
        """The state that the store has been in for a while; None where something was written just now."""
        found: list[int] = []
        for file in self._files:
            try:
                stat = file.stat()
            except OSError:  # there is no log while nothing is in it
                found += (0, 0)
            else:
                found += (stat.st_size, stat.st_mtime_ns)
        if not 0 <= max(found[1::2]) <= time.time_ns() - QUIET_NS:
            return None
        return "-".join((self._process, *(f"{number:x}" for number in found)))
