"""``layerline serve`` that checkpoints, seals and deletes what is old or unused all the time, not once in a while.

Run as a program with the options of ``layerline serve``: a kill then finds it in one or the other every time.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import duckdb

from layerline_api.commands.serve import main
from layerline_correlator.correlator import Correlator
from layerline_correlator.store import keeping

_init = Correlator.__init__


def _with_upkeep(self: Correlator, *given: Any, **named: Any) -> None:
    _init(self, *given, **named)

    def keep_up() -> None:
        while not self._closed:
            self._retain()
            with suppress(duckdb.Error):  # what was to be sealed was deleted just now, or it ends
                self.keeping.seal_all(time.time_ns() + 3 * 3600 * 10**9)
            with suppress(duckdb.Error):
                self.keeping.delete_unused()
            with self._store.cursor() as cursor, suppress(duckdb.Error):  # others write just now: the next one
                cursor.execute("CHECKPOINT").fetchall()
            time.sleep(random.random() * 0.1)  # noqa: S311 - to meet different moments

    threading.Thread(target=keep_up, daemon=True).start()


if __name__ == "__main__":
    keeping._PAUSE_S = 0.0
    Correlator.__init__ = _with_upkeep  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
