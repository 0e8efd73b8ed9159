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
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: How long everything may take after the first signal, in seconds.
LONGEST_S = 9.0

_log = logging.getLogger("layerline.ending")


class Stopped(KeyboardInterrupt):
    """A command that works through something was told to end; ``code`` is what the shell expects then (128 + n)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first signal raises ``Stopped`` in the main thread; later ones change nothing.

    Where the way out takes too long the process leaves without: what it had written is kept. Elsewhere than in the main
    thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    leaving: list[threading.Timer] = []
    told: list[int] = []

    def stop(number: int, frame: object) -> None:
        if told:
            return
        told.append(number)
        leaving.append(threading.Timer(LONGEST_S, _leave_late, (128 + number,)))
        leaving[0].daemon = True
        leaving[0].start()
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except Exception:  # inside the database ours becomes "Query interrupted"
        if told:
            raise Stopped(told[0]) from None
        raise
    finally:
        for timer in leaving:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int, but: Collection[threading.Thread] = ()) -> None:
    """End the process here where threads are still at work; else return, and it ends as processes do."""
    staying = (threading.main_thread(), threading.current_thread(), *but)
    if any(thread not in staying for thread in threading.enumerate()):
        _exit(code)


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
        leave(code, (self._watcher,))

    def _watch(self) -> None:
        while not self.asked.is_set():
            if any(number in SIGNALS for number in self._reader.recv(64)):
                self.asked.set()
        if not self._left.wait(self._longest_s):
            _log.warning("the end took longer than %g s; what was acknowledged is in the store's log", self._longest_s)
            _exit(0)


def _leave_late(code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        print(f"stopped; the end took longer than {LONGEST_S:g} s: what had been written is kept", file=sys.stderr)
    _exit(code)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
