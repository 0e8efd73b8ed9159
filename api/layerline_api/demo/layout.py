"""Which core does what: what measures stays off the last one, so that what is measured always has a core for itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """``rest`` is for what measures; ``subject`` is where a service that must share a core is put. None: anywhere."""

    subject: str | None
    rest: str | None

    @property
    def all(self) -> str | None:
        """Every core."""
        return None if self.subject is None or self.rest is None else f"{self.rest},{self.subject}"


def share(usable: Iterable[int]) -> Cores:
    """The last core for the subject, the others for the rest; with one core there is nothing to keep apart."""
    numbers = sorted(usable)
    if len(numbers) < 2:
        return Cores(None, None)
    return Cores(str(numbers[-1]), ",".join(map(str, numbers[:-1])))


def here() -> Cores:
    """For the cores that this process may use."""
    return share(os.sched_getaffinity(0))


@contextmanager
def staying_on(cpuset: str | None) -> Iterator[None]:
    """Keep this process (the load generator) on some cores for a while."""
    before = os.sched_getaffinity(0)
    if cpuset is not None:
        os.sched_setaffinity(0, numbers_of(cpuset))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def numbers_of(cpuset: str) -> set[int]:
    """``0-2,5`` as a set of numbers."""
    numbers: set[int] = set()
    for part in cpuset.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers
