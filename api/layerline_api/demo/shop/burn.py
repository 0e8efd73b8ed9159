"""Burning an exact amount of CPU, so that a fault's milliseconds are known."""

from __future__ import annotations

import time


def burn(cpu_ns: int) -> int:
    """Use the CPU until this thread has run for ``cpu_ns``, however long that takes. Returns what it ran.

    The thread's own clock stands still while the thread is kept from running, so the same call costs the same CPU
    under a quota, behind a neighbour and alone: only the wall clock differs.
    """
    began = time.thread_time_ns()
    value = 1
    while time.thread_time_ns() - began < cpu_ns:
        for _ in range(200):
            value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
    return time.thread_time_ns() - began
