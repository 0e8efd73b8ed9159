"""Every lasting thread of one server is started here, and none ends unseen.

A thread that ends by an exception is logged, counted and started again after a pause; until it runs, and for good where
it cannot be started again, ``/readyz`` says which thread it was and what ended it. Short helpers that other code starts
(timers, pools of libraries) are seen by ``watch_all``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

_log = logging.getLogger("layerline.threads")

#: How long a thread that failed waits before it runs again: doubled each time it fails soon after, in seconds.
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
#: Who ran for this long has recovered, in seconds.
_WELL_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class ThreadState:
    """What is known of the threads of one name."""

    name: str
    running: int = 0
    failures: int = 0  # how often one ended by an exception
    last: str | None = None  # that exception
    down: bool = False  # it should run, and does not

    def __str__(self) -> str:
        again = "it is started again" if self.down else f"failed {self.failures} times"
        return f"the thread {self.name} ended: {self.last} ({again})"


class Threads:
    """The threads of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, ThreadState] = {}
        self._ending = threading.Event()

    def start(self, name: str, run: Callable[[], None], *, again: bool = True) -> threading.Thread:
        """Run it on a thread of that name; with ``again``, also after it failed, until it returns or ``end``."""
        thread = threading.Thread(target=self._run, args=(name, run, again), name=name, daemon=True)
        self._change(name)
        thread.start()
        return thread

    def failed(self, name: str, problem: BaseException) -> None:
        """Note an exception that nobody expected in work of that name, which goes on."""
        told = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0][:300]}"
        _log.critical("the thread %s failed: %s", name, told, exc_info=problem)
        self._change(name)
        with self._lock:
            state = self._states[name]
            self._states[name] = replace(state, failures=state.failures + 1, last=told)

    def watch_all(self) -> None:
        """Note what ends any other thread of this process, too."""

        def seen(ended: threading.ExceptHookArgs) -> None:
            if ended.exc_value is not None and ended.exc_type is not SystemExit:
                self.failed(ended.thread.name if ended.thread else "unknown", ended.exc_value)

        threading.excepthook = seen

    def end(self) -> None:
        """Start nothing again from now on."""
        self._ending.set()

    def states(self) -> list[ThreadState]:
        """All that were ever started or failed, by name."""
        with self._lock:
            return sorted(self._states.values(), key=lambda state: state.name)

    def problems(self) -> list[str]:
        """Threads that should run and do not, with what ended them."""
        return [str(state) for state in self.states() if state.down]

    def _run(self, name: str, run: Callable[[], None], again: bool) -> None:
        pause_s = PAUSE_S
        while True:
            began = time.monotonic()
            self._change(name, running=1, down=False)
            try:
                run()
            except BaseException as problem:  # SystemExit as well: whatever it was, it must be seen
                self._change(name, running=-1, down=True)
                self.failed(name, problem)
            else:
                self._change(name, running=-1)
                return
            if not again:
                return
            if time.monotonic() - began > _WELL_AFTER_S:
                pause_s = PAUSE_S
            if self._ending.wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _change(self, name: str, running: int = 0, down: bool | None = None) -> None:
        with self._lock:
            state = self._states.get(name, ThreadState(name))
            self._states[name] = replace(
                state, running=state.running + running, down=state.down if down is None else down
            )
