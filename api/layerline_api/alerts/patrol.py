"""Goes round the monitors: one thread asks their questions when it is time, others tell what follows.

Each target is called by one worker at a time, and there are a few workers: one that hangs delays only its
own notices.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from layerline_api.alerts.notify import Teller
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import Notice
from layerline_correlator.threads import Threads

log = logging.getLogger(__name__)

#: How often it is looked whether something is due, in seconds.
_EVERY_S = 1.0
#: How long the end waits for what is under way, in seconds.
_PARTING_S = 0.5
#: How many targets are called at a time.
WORKERS = 8


class Patrol:
    """Evaluates and tells, on threads of its own between ``start`` and ``stop``; for tests also step by step."""

    def __init__(
        self,
        monitors: Monitors,
        teller: Teller,
        clock: Callable[[], int] = time.time_ns,
        threads: Threads | None = None,
    ) -> None:
        self._monitors = monitors
        self._teller = teller
        self._clock = clock
        self._stop = threading.Event()
        self._threads = threads or Threads()
        self._running: list[threading.Thread] = []
        self._workers = ThreadPoolExecutor(WORKERS, "layerline-notify")
        self._lock = threading.Lock()
        self._under_way: set[str] = set()  # addresses that are being told something
        self._told: set[Future[None]] = set()  # that being done

    def start(self) -> None:
        """Begin to go round."""
        self._running = [
            self._threads.start("layerline-monitors", lambda: self._go_on(self.evaluate)),
            self._threads.start("layerline-notices", lambda: self._go_on(self._hand_out)),
        ]

    def halt(self) -> None:
        """Begin nothing more."""
        self._stop.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """End. What is under way may end by itself; a notice that was not heard is told after the next start."""
        self.halt()
        for thread in self._running:
            thread.join(_PARTING_S)
        with self._lock:
            told = list(self._told)
        if not wait(told, _PARTING_S).not_done:
            self._workers.shutdown()

    def evaluate(self) -> None:
        """Ask what is due now."""
        self._monitors.evaluate_due(self._clock())

    def tell(self) -> None:
        """Tell what is due now, and return when everybody was told or could not be."""
        wait(self._hand_out())

    def _hand_out(self) -> list[Future[None]]:
        """Give what is due to the workers, all that is for one address to one of them."""
        with self._lock:
            busy = sorted(self._under_way)
        by_address: dict[str, list[Notice]] = {}
        for notice in self._monitors.due_notices(self._clock(), busy):
            by_address.setdefault(notice.target.url, []).append(notice)
        handed_out = []
        for url, notices in by_address.items():
            with self._lock:
                self._under_way.add(url)
                told = self._workers.submit(self._tell_one, url, notices)
                self._told = {one for one in self._told if not one.done()} | {told}
            handed_out.append(told)
        return handed_out

    def _tell_one(self, url: str, notices: Sequence[Notice]) -> None:
        """Tell one address; when it does not hear one notice it is not sent another one now."""
        try:
            for notice in notices:
                if self._stop.is_set():
                    return
                problem = self._teller.tell(notice, self._clock())
                if problem is not None:
                    self._monitors.not_heard(notice, self._clock(), problem)
                    return
                self._monitors.heard(notice, self._clock())
        except Exception as problem:  # the notices are due again
            if not self._stop.is_set():
                self._threads.failed("layerline-notify", problem)
        finally:
            with self._lock:
                self._under_way.discard(url)

    def _go_on(self, step: Callable[[], object]) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                step()
            except Exception:  # one bad round must not be the last
                if self._stop.is_set():  # it was cut off
                    return
                log.exception("the monitors' round failed; the next one is in a second")
