"""Goes round the monitors: one thread asks their questions when it is time, another tells what follows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from layerline_api.alerts.notify import Teller
from layerline_correlator.monitors.keeper import Monitors

log = logging.getLogger(__name__)

#: How often it is looked whether something is due, in seconds.
_EVERY_S = 1.0
#: How long the end waits for what is under way, in seconds.
_PARTING_S = 5.0


class Patrol:
    """Evaluates and tells, on threads of its own between ``start`` and ``stop``; for tests also step by step."""

    def __init__(self, monitors: Monitors, teller: Teller, clock: Callable[[], int] = time.time_ns) -> None:
        self._monitors = monitors
        self._teller = teller
        self._clock = clock
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._go_on, args=(step,), name=f"layerline-{name}", daemon=True)
            for name, step in (("monitors", self.evaluate), ("notices", self.tell))
        ]

    def start(self) -> None:
        """Begin to go round."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End. What is under way may end by itself; a notice that was not heard is told after the next start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PARTING_S)

    def evaluate(self) -> None:
        """Ask what is due now."""
        self._monitors.evaluate_due(self._clock())

    def tell(self) -> None:
        """Tell what is due now. Who did not hear one notice is not sent a second one in this round."""
        deaf: set[str] = set()
        for notice in self._monitors.due_notices(self._clock()):
            if self._stop.is_set():
                return
            if notice.target.url in deaf:
                continue
            problem = self._teller.tell(notice, self._clock())
            if problem is None:
                self._monitors.heard(notice, self._clock())
            else:
                deaf.add(notice.target.url)
                self._monitors.not_heard(notice, self._clock(), problem)

    def _go_on(self, step: Callable[[], None]) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                step()
            except Exception:  # one bad round must not be the last
                log.exception("the monitors' round failed; the next one is in a second")
