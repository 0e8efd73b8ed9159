"""How a command ends when it is told to: SIGTERM and SIGINT, once or again, and never later than ten seconds after.

The kernel's signal is noticed at once, also while the main thread is inside the database, because Python writes a byte
for it (``signal.set_wakeup_fd``). A process whose threads are still inside the database must not unload it below them
(SIGABRT, exit code 134); it leaves without: what was acknowledged is in the store's log.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: How long everything may take after the first signal, in seconds.
LONGEST_S = 9.0

_log = logging.getLogger("layerline.ending")


class Ending:
    """Whether this process was told to end. One for each process, made by its main thread."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        """From now on the signals are taken; a second one changes nothing."""
        self.asked = threading.Event()
        self._longest_s = longest_s
        self._left = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, name="layerline-signals", daemon=True)
        self._watcher.start()

    def leave(self, code: int) -> None:
        """The end is reached. Where threads of ours are still at work, the process ends here, with that code."""
        self._left.set()
        mine = (self._watcher, threading.current_thread())
        if any(thread.name.startswith("layerline") and thread not in mine for thread in threading.enumerate()):
            _exit(code)

    def _watch(self) -> None:
        while not self.asked.is_set():
            if any(number in SIGNALS for number in self._reader.recv(64)):
                self.asked.set()
        if not self._left.wait(self._longest_s):
            _log.warning("the end took longer than %g s; what was acknowledged is in the store's log", self._longest_s)
            _exit(0)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
