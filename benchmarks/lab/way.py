"""Ways of running: which server with how many threads, on which cores, and where a CPU limit stands.

A way is written as its parts, joined by ``+``: ``gthread-16+all``, or for a fault that sets a CPU limit
``flask-4+one+20ms+parent``. A fault says which ways it can be run in; which of them a case has is drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

#: Server to the numbers of threads that it is run with. The threads exist, whether or not they have work.
THREADS: Final = {
    "sync": (1,),
    "gthread": (1, 4, 16),
    "flask": (1, 4, 16),
    "uvicorn": (1,),
    "uvloop": (1,),
    "node": (1,),
}
#: Server to the program of ``apps`` that it runs.
APPS: Final = {
    "sync": "flask",
    "gthread": "flask",
    "flask": "flask",
    "uvicorn": "asyncio",
    "uvloop": "asyncio",
    "node": "node",
}
#: The servers of the Flask app: gunicorn with either worker class, and ``app.run(threaded=True)``.
SYNCHRONOUS = ("sync", "gthread", "flask")
#: Those of the asyncio app: uvicorn on asyncio's own loop, and on uvloop, which it takes where that is installed.
ASYNCHRONOUS = ("uvicorn", "uvloop")
#: ``all``: no cpuset, Docker's default. ``one``: a cpuset of one core.
CORES = ("all", "one")
#: ``--cpu-period``, in milliseconds; 100 is the default.
PERIODS_MS = (100, 50, 20)
#: ``own``: the limit is the container's. ``parent``: it is that of the cgroup above (``--cgroup-parent``).
PLACES = ("own", "parent")
#: How often a part is drawn beside the others of its kind; all others count once.
WEIGHTS = {"all": 3, "own": 2}


@dataclass(frozen=True, slots=True)
class Way:
    """How a container is run."""

    server: str = "sync"
    threads: int = 1
    cores: str = "all"
    period_ms: int | None = None
    """None: no CPU limit is set."""
    place: str | None = None
    """Where the limit is set; None: nowhere."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What it is written as."""
        limit = () if self.period_ms is None or self.place is None else (f"{self.period_ms}ms", self.place)
        return f"{self.server}-{self.threads}", self.cores, *limit

    @property
    def app(self) -> str:
        """The program of ``apps``."""
        return APPS[self.server]

    @property
    def below_parent(self) -> bool:
        """Whether the container needs a parent cgroup of its own."""
        return self.place == "parent"

    def __str__(self) -> str:
        return "+".join(self.parts)


def parse(text: str) -> Way:
    """A way as ``str`` writes it. ValueError says what was expected."""
    found = [way for server in THREADS for limit in (False, True) for way in ways((server,), limit=limit)]
    for way in found:
        if str(way) == text:
            return way
    raise ValueError(f"no way of running is written {text!r}, expected one as {found[0]} or {found[-1]}")


def ways(
    servers: Iterable[str], cores: Collection[str] = CORES, limit: bool = False, least_threads: int = 1
) -> tuple[Way, ...]:
    """Every way with these servers and cores; ``limit``: with each period and place of a CPU limit."""
    limits: list[tuple[int | None, str | None]] = [(None, None)]
    if limit:
        limits = [(period_ms, place) for period_ms in PERIODS_MS for place in PLACES]
    return tuple(
        Way(server, threads, where, period_ms, place)
        for server in servers
        for threads in THREADS[server]
        if threads >= least_threads
        for where in cores
        for period_ms, place in limits
    )


def matches(way: Way, pattern: str) -> bool:
    """Whether a way has every part that the pattern names; ``*`` and ``?`` stand for anything in a part."""
    return all(any(fnmatchcase(part, wanted) for part in way.parts) for wanted in pattern.split("+"))


def balanced(choice: Collection[Way], chance: random.Random) -> Iterator[Way]:
    """Ways without end, each part as often as its weight says: always one whose parts are most overdue."""
    if not choice:
        raise ValueError("a way of running was to be drawn from none")
    drawn: Counter[str] = Counter()

    def due(way: Way) -> float:
        return sum((drawn[part] + 1) / WEIGHTS.get(part, 1) for part in way.parts)

    while True:
        least = min(due(way) for way in choice)
        taken = chance.choice([way for way in choice if due(way) == least])
        drawn.update(taken.parts)
        yield taken
