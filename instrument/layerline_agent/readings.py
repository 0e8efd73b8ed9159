"""Readings of one entity, turned into the points that are sent: two rates, and counters that stand still cost nothing.

Everything is read every full tick. Between full ticks only the stall counters are, and a point of theirs is sent only
when the value changed. When it changes after standing still, the last reading before the change is sent too. So between
two consecutive points that were sent a counter either stood still, or moved between two consecutive readings: the
increase of each interval is exact, and a stall is known to a fine tick. When an entity is gone, what was read last is
sent, as of then.

A counter that goes back has begun anew: from there on it is another series, which started when the old one was read
last. Some go back a little without that (proc(5), ``iowait``: "may decrease in certain conditions"): they stand still
until the kernel has caught up. Their increase is never negative, and nobody takes them for new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from layerline.signals import Kind, find
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.sensor import Dimensions, Raw, Scan, Sensor, Source

Clock = Callable[[], int]


#: One value of a series: when the kernel was asked for it, and what it said.
Point = tuple[int, int | float]


class Series:
    """One signal of one entity, one set of dimensions: its newest value and the points not yet sent."""

    __slots__ = ("counter", "dimensions", "points", "sent_ns", "signal", "stall", "start_ns", "steps_back", "value")

    def __init__(self, signal: str, dimensions: Dimensions, start_ns: int = 0) -> None:
        known = find(signal)
        self.signal = signal
        self.dimensions = dimensions
        self.counter = known is not None and known.kind is Kind.COUNTER
        self.stall = known is not None and known.stall and self.counter
        self.steps_back = known.steps_back if known is not None else 0
        self.start_ns = start_ns  # when it began, if that was after its entity did; else 0
        self.value: int | float | None = None
        self.sent_ns = 0
        self.points: list[Point] = []

    def send(self, time_ns: int) -> None:
        """Its value goes out as of this time."""
        if self.value is not None:
            self.points.append((time_ns, self.value))
            self.sent_ns = time_ns


class Runs:
    """The series that one source yields, as runs."""

    __slots__ = ("_at_ns", "_known", "_over", "current")

    def __init__(self) -> None:
        self._known: dict[tuple[str, Dimensions], Series] = {}
        self._over: list[Series] = []  # began anew since, with points still to be sent
        self._at_ns = 0
        self.current: list[Series] = []
        """What the newest reading held; a limit that was taken away is not in it."""

    def stood_still(self, time_ns: int, full: bool) -> None:
        """Read, and every value is what it was."""
        self._at_ns = time_ns
        if full:
            for series in self.current:
                series.send(time_ns)

    def read(self, time_ns: int, raws: Iterable[Raw], full: bool) -> None:
        """Read, and something changed."""
        current = []
        for raw in raws:
            key = (raw.signal, raw.dimensions)
            series = self._known.get(key)
            if series is None:
                series = self._known[key] = Series(raw.signal, raw.dimensions)
            value = raw.value
            if series.counter and series.value is not None and value < series.value:
                if series.value - value < series.steps_back:
                    value = series.value
                else:
                    if series.sent_ns < self._at_ns:
                        series.send(self._at_ns)
                    self._over = [*(one for one in self._over if one.points), series]
                    series = self._known[key] = Series(raw.signal, raw.dimensions, self._at_ns)
            current.append(series)
            changed = series.value != value
            if changed and series.stall and series.sent_ns < self._at_ns:
                series.send(self._at_ns)
            series.value = value
            if full or (changed and series.stall):
                series.send(time_ns)
        self.current = current
        self._at_ns = time_ns

    def began(self, raw: Raw, at_ns: int, value: int | float) -> None:
        """A series that begins: what it was before its first reading is sent too, so that its increase is known."""
        if (raw.signal, raw.dimensions) not in self._known:
            series = self._known[raw.signal, raw.dimensions] = Series(raw.signal, raw.dimensions)
            series.value = value
            series.send(at_ns)

    def flush(self) -> None:
        """It is not read any more: what the newest reading held is sent, as of then, where it was not yet."""
        for series in self.current:
            if series.sent_ns < self._at_ns:
                series.send(self._at_ns)

    def forget(self) -> None:
        """Forget the series that the newest reading did not hold and that have nothing to send."""
        current = set(map(id, self.current))
        self._known = {key: one for key, one in self._known.items() if one.points or id(one) in current}

    @property
    def series(self) -> Iterable[Series]:
        """All it yielded: points of one that is gone may still wait to be sent."""
        return (*self._over, *self._known.values()) if self._over else self._known.values()


class Reader:
    """One source of one entity: its files, and the runs of what they hold."""

    __slots__ = ("_clock", "_contents", "_files", "_get", "_machine", "_parse", "runs")

    def __init__(self, source: Source, directories: Mapping[str, str], machine: Machine, clock: Clock) -> None:
        self._files = tuple(
            File(f"{directories[hierarchy]}/{name}")
            for hierarchy, _, name in (file.partition("/") for file in source.files)
        )
        # This runs thousands of times a second: nearly all sources are one file, and take the short way.
        self._get = self._files[0].read if len(self._files) == 1 else self._all
        self._parse = source.read
        self._machine = machine
        self._clock = clock
        self._contents: bytes | tuple[bytes | None, ...] | None = None
        self.runs = Runs()

    def _all(self) -> tuple[bytes | None, ...] | None:
        contents = tuple([file.read() for file in self._files])
        return None if contents.count(None) == len(contents) else contents

    def read(self, full: bool) -> None:
        """Read the files now. OSError or ValueError where one is unreadable or not what it should be."""
        self._take(self._clock(), self._get(), full)

    def _take(self, time_ns: int, contents: bytes | tuple[bytes | None, ...] | None, full: bool) -> None:
        if contents == self._contents:
            if contents is not None:
                self.runs.stood_still(time_ns, full)
            return
        if isinstance(contents, bytes):
            self.runs.read(time_ns, tuple(self._parse(self._machine, contents)), full)
        elif contents is not None:
            self.runs.read(time_ns, tuple(self._parse(self._machine, *contents)), full)
        self._contents = contents

    @property
    def paths(self) -> list[str]:
        """Its files."""
        return [file.path for file in self._files]

    def copied(self, time_ns: int, contents: Mapping[str, bytes | None]) -> None:
        """What its files, by path, held at this time: copied elsewhere, the last of a container."""
        found = tuple([contents.get(path) for path in self.paths])
        if found.count(None) < len(found):
            self._take(time_ns, found[0] if len(found) == 1 else found, full=True)

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()


class Scanner:
    """A scan of one entity, and the runs of what it finds. Its series come and go."""

    __slots__ = ("_clock", "_scan", "runs")

    def __init__(self, scan: Scan, clock: Clock) -> None:
        self._scan = scan
        self._clock = clock
        self.runs = Runs()

    def read(self, full: bool) -> None:
        """Look around now."""
        time_ns = self._clock()
        found = self._scan(time_ns)
        for seen in found:
            if seen.before is not None:
                self.runs.began(seen.raw, *seen.before)
        self.runs.read(time_ns, [seen.raw for seen in found], full)
        self.runs.forget()

    def close(self) -> None:
        """Nothing is kept open."""


#: What a file that is unreadable, or not what it should be, makes its reader raise.
UNREADABLE = (OSError, ValueError, LookupError, ArithmeticError)


@dataclass(eq=False)
class Entity:
    """A container or the host: who it is, where its files are, and what was read from them."""

    attributes: Mapping[str, str | list[str] | int]
    """Its OTLP resource."""
    start_ns: int
    """When its counters began, in ns since 1970; 0 where unknown."""
    readers: Mapping[str, tuple[Reader | Scanner, ...]] = field(default_factory=dict)
    """By sensor: its sources."""
    stall_readers: Mapping[str, tuple[Reader, ...]] = field(default_factory=dict)
    """By sensor: those of them that hold stall counters."""
    total_readers: Mapping[str, tuple[Reader, ...]] = field(default_factory=dict)
    """By sensor: its sources, where they hold what the entity used in its life."""
    told: Runs = field(default_factory=Runs)
    """What somebody else read and told, where it has no readers."""
    above: list[Runs] = field(default_factory=list)
    """What was read of the cgroups above it (``ancestors.py``)."""
    held: bool = False
    """It is not yet known by all its tags: nothing of it is sent."""

    @classmethod
    def of(
        cls,
        kind: str,
        attributes: Mapping[str, str | list[str] | int],
        start_ns: int,
        directories: Mapping[str, str],
        sensors: Mapping[str, Sensor],
        machine: Machine,
        clock: Clock = time.time_ns,
    ) -> Entity:
        """An entity with the readers that its directories allow; a sensor whose hierarchy is missing has none."""
        readers: dict[str, tuple[Reader | Scanner, ...]] = {}
        stall_readers: dict[str, tuple[Reader, ...]] = {}
        total_readers: dict[str, tuple[Reader, ...]] = {}
        for name, sensor in sensors.items():
            if sensor.entity == kind:
                made = [
                    (source.stalls, Reader(source, directories, machine, clock))
                    for source in sensor.sources_for(directories)
                    if all(file.partition("/")[0] in directories for file in source.files)
                ]
                scans = (Scanner(sensor.scan(machine), clock),) if sensor.scan else ()
                readers[name] = (*(reader for _, reader in made), *scans)
                stall_readers[name] = tuple(reader for stalls, reader in made if stalls)
                if sensor.totals and made:
                    total_readers[name] = tuple(reader for _, reader in made)
        return cls(attributes, start_ns, readers, stall_readers, total_readers)

    def read(self, sensor: str, full: bool) -> None:
        """Read one sensor's files now. One unreadable file does not keep the others from being read; then it raises."""
        problem: Exception | None = None
        for reader in (self.readers if full else self.stall_readers).get(sensor, ()):
            try:  # thousands of times a second
                reader.read(full)
            except UNREADABLE as caught:
                problem = caught
        if problem is not None:
            raise problem

    def poll(self, sensor: str) -> None:
        """Read what it used so far; the counters that are not fine are sent with a later reading."""
        for reader in self.total_readers.get(sensor, ()):
            reader.read(full=False)

    def ended(self, sensor: str, time_ns: int, contents: Mapping[str, bytes | None]) -> None:
        """Its last process has ended; this is what the files of ``total_readers`` held then, by path."""
        for reader in self.total_readers.get(sensor, ()):
            reader.copied(time_ns, contents)

    def died(self, time_ns: int) -> None:
        """Nothing ran in it from ``ended`` until this time, when the engine says it died."""
        for readers in self.total_readers.values():
            for reader in readers:
                reader.runs.stood_still(time_ns, full=True)

    @property
    def series(self) -> Iterable[Series]:
        """Every series, whether it has points to send or not."""
        for readers in self.readers.values():
            for reader in readers:
                yield from reader.runs.series
        yield from self.told.series
        for runs in self.above:
            yield from runs.series

    def close(self) -> None:
        """It is not read any more. What was read and not sent is to be sent yet."""
        for readers in self.readers.values():
            for reader in readers:
                reader.runs.flush()
                reader.close()
        self.told.flush()
        for runs in self.above:
            runs.flush()
