"""When the worker looks again, so that a quiet machine hardly pays for it.

A pass costs nearly the same for one trace as for a hundred, so it waits until it is worth its while, but never longer
than somebody would notice: what is slow or failed has its ledger as soon as its readings are there, and whoever asks is
answered at once (``correlator.py``).
"""

from __future__ import annotations

#: The shortest time between two passes, in seconds; and how many times as long as a pass took the next ledger waits at
#: most while little arrives: three hundredths of a core.
PAUSE_S, TIMES = 0.5, 30
#: Where no more traces than ``FEW`` wait, an ordinary ledger waits for so long at most: a pass takes all that are ready
#: with it, and on a quiet machine nearly every ledger comes with that of a request that is slow.
TOGETHER_NS, FEW = 180_000_000_000, 250


def due_ns(ready_ns: int, waiting: int, *, is_urgent: bool) -> int:
    """When the ledger has to be worked out of a request whose readings are there at ``ready_ns``, as one of so many."""
    if is_urgent or waiting > FEW:
        return ready_ns
    return ready_ns + TOGETHER_NS


def until_s(ended_s: float, worked_s: float, longest_s: float, due_s: float | None) -> float:
    """When the pass after one that ended then and took so long begins, if nobody asks; ``due_s``: the next ledger is.

    What only arrives waits longest: its ledger needs readings first, which take as long to come.
    """
    least_s = ended_s + min(longest_s, max(PAUSE_S, TIMES * worked_s))
    most_s = ended_s + longest_s
    return most_s if due_s is None else min(most_s, max(least_s, due_s))
