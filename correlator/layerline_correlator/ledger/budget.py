"""How many ledgers may be worked out, when not all can be: a share of a core, and who gets it.

Time that is not used is saved up for a few seconds, so that a burst is worked out whole. What a ledger costs is known
from the last passes, in CPU time and, because a busy machine gives less than that, in time that passed. When there is
too little for all, each operation gets the same number of ledgers: those with fewer requests have all of theirs, and no
busy operation takes the place of a rare one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

#: Time is saved up for so long, in seconds.
SAVED_S = 20.0
#: A pass over fewer traces says little about what one of them costs.
_ENOUGH = 50
#: What one is taken to cost before any is known, in seconds, and how much the newest pass counts.
_GUESS_S, _NEWEST = 0.002, 0.3
#: So many ordinary requests have their ledger in each pass, however little time there is.
ANYWAY = 20

Key = TypeVar("Key", bound=Hashable)


class Budget:
    """Time to spend on ledgers. Not safe for threads: the worker alone has it."""

    def __init__(self, ratio: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``ratio``: how much of a core may be used in the long run."""
        self._ratio, self._clock = ratio, clock
        self._saved_s, self._at_s = ratio * SAVED_S, clock()
        self.each_s = self.each_took_s = _GUESS_S

    def change(self, ratio: float) -> None:
        """From now on that much of a core may be used."""
        self._ratio = ratio

    def spent(self, traces: int, cpu_s: float, took_s: float) -> None:
        """A pass over so many traces took so much CPU time, and so long."""
        self._save()
        self._saved_s -= cpu_s
        if traces >= _ENOUGH:
            self.each_s += _NEWEST * (cpu_s / traces - self.each_s)
            self.each_took_s += _NEWEST * (took_s / traces - self.each_took_s)

    def room(self, waiting: int) -> int:
        """For how many more ledgers there is time, beside those that wait."""
        self._save()
        return max(0, int(min(self._saved_s / self.each_s, SAVED_S / self.each_took_s)) - waiting)

    def _save(self) -> None:
        now_s = self._clock()
        self._saved_s = min(self._ratio * SAVED_S, self._saved_s + self._ratio * (now_s - self._at_s))
        self._at_s = now_s


def chances(counts: Mapping[Key, int], room: int) -> dict[Key, float]:
    """With which probability each trace of an operation is drawn, so that about ``room`` of all are.

    Every operation gets the same number, and those that have fewer leave the rest to the others.
    """
    left, found = float(room), {}
    for place, (key, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        equal = left / (len(counts) - place)
        found[key] = min(1.0, equal / count) if count else 1.0
        left -= found[key] * count
    return found
