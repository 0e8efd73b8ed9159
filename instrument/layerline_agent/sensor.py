"""What a sensor is: which kernel files it reads, and what their bytes say.

A sensor is one file below ``sensors/`` with a ``SENSOR``; the list of sensors is that folder. It opens nothing itself:
it names files and turns their contents into ``Raw`` values, so that it can be shown any captured machine, and so that
the files can be kept open, stamped with the time of their reading and skipped while they stand still (``readings.py``).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from layerline_agent import sensors
from layerline_agent.machine import Machine

#: Attributes that make a point a series of its own, as the catalogue's ``dimensions`` name them.
Dimensions = tuple[tuple[str, str], ...]


class Raw(NamedTuple):
    """One value as it was read, in the catalogue's unit: integer ns, bytes, counts; CPUs as float."""

    signal: str
    value: int | float
    dimensions: Dimensions = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Files that are read together, and the function that says what they hold.

    A file is named by its hierarchy and its name there: ``cpu/cpu.stat`` is in the container's directory of the v1
    controller ``cpu``, ``unified/cpu.stat`` in its cgroup v2 directory, ``proc/stat`` in the host's ``/proc``.
    ``read`` takes the machine and each file's bytes; None for a file that is not there. Where none is there, it is not
    called, nothing is yielded, and the signal reads as blind later.
    """

    files: tuple[str, ...]
    read: Callable[..., Iterable[Raw]]
    stalls: bool = False
    """Holds counters that the catalogue marks ``stall``: read several times a second."""


class Seen(NamedTuple):
    """A value that a scan found, and the one before where there is no point of it yet."""

    raw: Raw
    before: tuple[int, int] | None
    """When it was last looked at, and what it was then."""


#: Looks around below a directory, at this time: for what is in no file whose name is known beforehand.
Scan = Callable[[int], list[Seen]]


@dataclass(frozen=True, slots=True)
class Sensor:
    """One controller or one ``/proc`` file of containers or of the host."""

    entity: str
    """``container`` or ``host``."""
    sources: tuple[Source, ...]
    """What it reads; for containers, with cgroup v2."""
    controller: str = ""
    """The v1 controller which, where it holds the container, is read instead (v1 and hybrid)."""
    sources_v1: tuple[Source, ...] = ()
    totals: bool = False
    """Holds what a container used in its life: read every 100 ms while it is young, and when its last process ended."""
    above: tuple[Source, ...] = ()
    """What it reads of a cgroup above containers, with cgroup v2: limits, and what they did (``ancestors.py``)."""
    above_v1: tuple[Source, ...] = ()
    scan: Callable[[Machine], Scan] | None = None
    """Makes what looks around on each full tick, for the one sensor that cannot name its files."""

    def sources_for(self, hierarchies: Iterable[str]) -> tuple[Source, ...]:
        """The sources to read where these hierarchies hold the entity."""
        return self.sources_v1 if self.controller and self.controller in hierarchies else self.sources

    def above_for(self, hierarchies: Iterable[str]) -> tuple[Source, ...]:
        """The sources to read of a cgroup above containers that is in these hierarchies."""
        return self.above_v1 if self.controller and self.controller in hierarchies else self.above


@cache
def all_sensors() -> Mapping[str, Sensor]:
    """Every sensor by the name of its file."""
    names = sorted(module.name for module in pkgutil.iter_modules(sensors.__path__))
    return {name: importlib.import_module(f"{sensors.__name__}.{name}").SENSOR for name in names}


def flat_keyed(content: bytes, signals: Mapping[bytes, tuple[str, int]]) -> Iterator[Raw]:
    """The signals of a file of ``key value`` lines, such as ``cpu.stat``: by key, the signal and its unit's factor."""
    words = iter(content.split())
    for key, value in zip(words, words, strict=True):
        if known := signals.get(key):
            signal, factor = known
            yield Raw(signal, int(value) * factor)
