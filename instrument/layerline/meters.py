"""What the container's own meters gained during exactly one request, as far as they can be read from inside.

A meter is one file of the process's own cgroup and the figures that it holds; adding one is one line in ``METERS``. All
only grow. The files are kept open, are read at the start of an entry span and compared at its end; the start keeps the
raw bytes, so that nothing is parsed when nothing changed.

What CPU quotas withheld is read at more than one cgroup: ``layerline.quota``; hits of memory limits too:
``layerline.refaults``. Pressure is the container's own, whoever's limit made its tasks wait: that of an ``io.max``
above it is in its ``io.pressure``.

The machine's root cgroup and ``/proc/pressure`` show the whole machine and are never read. What a kernel does not give
(pressure switched off, a controller not enabled) is absent. Refaults are too dear to read at both ends: see
``layerline.refaults``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from time import process_time_ns, time_ns
from typing import Final

from layerline.affinity import Affinity
from layerline.attributes import (
    CONTAINER_IO_PRESSURE_NS,
    CONTAINER_MEMORY_PRESSURE_NS,
    CONTAINER_OOM_KILLS,
    CONTAINER_REFAULTS,
    CONTAINER_RUNNABLE_NS,
    CONTAINER_USAGE_NS,
    CPUS,
)
from layerline.cgroup import UNIFIED, Cgroup
from layerline.kernel import File
from layerline.quota import Parse, Quotas, keyed
from layerline.refaults import Refaults, limit_hits
from layerline.runnable import Reading, Runnable


def some_total(raw: bytes) -> int | None:
    """Time in which some task was stalled: ``some avg10=… total=123`` (µs), Linux 4.20, in nanoseconds."""
    first, _, _ = raw.partition(b"\n")
    head, found, total = first.rpartition(b"total=")
    return int(total) * 1_000 if found and head.startswith(b"some") else None


def whole(raw: bytes) -> int | None:
    """A file that is one number."""
    return int(raw)


@dataclass(frozen=True, slots=True)
class Meter:
    """One file of a hierarchy, and the figures in it: attribute and how it is read."""

    controller: str
    file: str
    figures: tuple[tuple[str, Parse], ...]
    most_bytes: int = 1024  # a larger buffer is slower to read


#: Exported by nobody: how often the memory limit was hit says whether refaults are worth reading.
_LIMIT_HITS: Final = "hits of the memory limit"

METERS: Final = (
    # v2
    Meter(UNIFIED, "cpu.stat", ((CONTAINER_USAGE_NS, keyed(b"usage_usec", 1_000)),)),
    Meter(UNIFIED, "io.pressure", ((CONTAINER_IO_PRESSURE_NS, some_total),)),
    Meter(UNIFIED, "memory.pressure", ((CONTAINER_MEMORY_PRESSURE_NS, some_total),)),
    Meter(UNIFIED, "memory.events", ((CONTAINER_OOM_KILLS, keyed(b"oom_kill", 1)), (_LIMIT_HITS, limit_hits))),
    # v1 and hybrid
    Meter("cpuacct", "cpuacct.usage", ((CONTAINER_USAGE_NS, whole),)),
    Meter("memory", "memory.oom_control", ((CONTAINER_OOM_KILLS, keyed(b"oom_kill", 1)),)),
    Meter("memory", "memory.failcnt", ((_LIMIT_HITS, whole),), 64),
)

#: A reading older than this does not stand for the time before a request (ns).
_RECENT_NS: Final = 5_000_000_000


@dataclass(slots=True)  # frozen, it takes three times as long to make
class Begun:
    """The meters as they stood when a span began."""

    at: int  # ns, UTC
    raw: tuple[bytes, ...]
    quotas: tuple[bytes, ...]
    used: int  # CPU time of this process, outside a container
    runnable: Reading | None
    refaults: int = 0
    above: int = 0  # hits of memory limits above the container
    earlier: tuple[bytes, ...] | None = None  # the quotas, as they stood before its request came in


class Meters:
    """The meters of the container that this process runs in; outside any, its "container" is the process itself.

    There CPU time and runnable time are the process's own. Its throttled time and pressure are its cgroup's, if that
    is not the machine's root: a systemd unit can have a quota too.
    """

    def __init__(self, cgroup: Cgroup, contained: bool) -> None:
        self._cgroup = cgroup
        self._contained = contained
        self._open: list[tuple[File, Meter]] = []
        self._ends: deque[tuple[int, tuple[bytes, ...]]] = deque(maxlen=8)
        self._runnable = Runnable(cgroup if contained else None)
        self._quotas = Quotas(cgroup, contained, time_ns())
        self._refaults: Refaults | None = None
        self._affinity = Affinity()
        self._hits = 0  # which of the open files counts hits of the memory limit
        self._find()

    def begin(self, now: int) -> Begun:
        """Read at a span's start."""
        raw = tuple([file.read() for file, _ in self._open])
        refaults = self._refaults
        return Begun(
            now,
            raw,
            self._quotas.read(now),
            0 if self._contained else process_time_ns(),
            self._runnable.before(now),
            refaults.before(raw[self._hits], now) if refaults is not None else 0,
            refaults.above(now) if refaults is not None else 0,
        )

    def since(self, begun: object, arrival: int) -> object:
        """The same, with throttled time from the last request's end before ``arrival``, if that is at most 5 s ago.

        In idle time throttled time does not grow, as only threads that are ready are throttled. Where other requests
        ran between that reading and the arrival, what they were throttled is in it: an upper bound.
        """
        if isinstance(begun, Begun):
            known = [(at, raw) for at, raw in tuple(self._ends) if begun.at - _RECENT_NS <= at <= arrival]
            if known:
                return replace(begun, earlier=max(known)[1])
        return begun

    def gained(self, begun: object, now: int) -> Iterator[tuple[str, int | str]]:
        """Attribute and growth since ``begun``, never negative; nothing for a meter that went away."""
        if not isinstance(begun, Begun) or len(begun.raw) != len(self._open) or not self._quotas.fits(begun.quotas):
            return  # the process forked meanwhile
        ends = []
        hit: bool | None = None
        for (file, meter), before in zip(self._open, begun.raw, strict=True):
            after = file.read()
            ends.append(after)
            for name, parse in meter.figures:
                if name == _LIMIT_HITS:
                    hit = before != after and parse(before) != parse(after)
                    continue
                if before == after:
                    yield name, 0
                    continue
                first, last = parse(before), parse(after)
                if first is not None and last is not None and last >= first:
                    yield name, last - first
        if (cpus := self._affinity.changed(now, begun.at)) is not None:
            yield CPUS, cpus
        quotas = self._quotas.read(now, begun.quotas)
        self._ends.append((now, quotas))
        yield from self._quotas.gained(begun.quotas, begun.earlier or begun.quotas, quotas)
        if not self._contained:
            yield CONTAINER_USAGE_NS, process_time_ns() - begun.used
        runnable = self._runnable.gained(begun.runnable, begun.at, now)
        if runnable is not None:
            yield CONTAINER_RUNNABLE_NS, runnable
        if self._refaults is not None and hit is not None:
            hit = hit or self._refaults.above(now) != begun.above
            yield CONTAINER_REFAULTS, self._refaults.gained(begun.refaults, hit, ends[self._hits], begun.at, now)

    def met(self, tid: int) -> None:
        """A thread of this process has opened its first span: count it from now on."""
        self._runnable.met(tid)

    def forked(self) -> None:
        """In a forked child: other files, the same container."""
        for file, _ in self._open:
            file.close()
        self._open = []
        self._quotas.close()
        if self._refaults is not None:
            self._refaults.close()
            self._refaults = None
        self._ends.clear()
        self._cgroup = Cgroup.of_this_process(self._cgroup.root)
        self._quotas = Quotas(self._cgroup, self._contained, time_ns())
        self._find()
        self._runnable.forked()

    def _find(self) -> None:
        """Open what is there and gives something."""
        seen = {CONTAINER_USAGE_NS} if self._quotas.has_usage else set[str]()
        for meter in METERS:
            if not self._contained and meter.controller == "cpuacct":
                continue
            folder = self._cgroup.folder(meter.controller)
            if folder is None:
                continue
            try:
                file = File(str(folder / meter.file), meter.most_bytes)
            except OSError:
                continue
            figures = tuple(
                (name, parse)
                for name, parse in meter.figures
                if name not in seen and (self._contained or name != CONTAINER_USAGE_NS) and gives(file, parse)
            )
            if figures:
                seen.update(name for name, _ in figures)
                if any(name == _LIMIT_HITS for name, _ in figures):
                    self._hits = len(self._open)
                    with suppress(OSError, ValueError):  # absent
                        above = [above for _, above in self._cgroup.levels(meter.controller)[1:]]
                        self._refaults = Refaults(folder, meter.controller == UNIFIED, file.read(), time_ns(), above)
                self._open.append((file, replace(meter, figures=figures)))


def gives(file: File, parse: Parse) -> bool:
    """Whether the file can be read and holds the figure: with pressure switched off it opens and cannot be read."""
    try:
        return parse(file.read()) is not None
    except (OSError, ValueError):
        return False
