"""How much CPU time was withheld from the container by quotas, and whose quota it was: its own, or one above it.

A quota holds for everything below its cgroup, but ``cpu.stat`` counts what it withheld only at the cgroup that has it:
under the limit of an ECS task, a Kubernetes pod or a systemd slice the container's own ``cpu.stat`` stays at 0. Two
things tell all the same:

* ``cpu.stat.local`` of our own cgroup (Linux 6.5) grows whenever our group is stopped, by whatever quota, and counts
  each moment once. It is visible inside a container too. What its own quota did not withhold was withheld above it.
* ``cpu.stat`` at each *level*: our own cgroup and those above it, as far as they are mounted here, but for the
  machine's root. In a container with a cgroup namespace of its own nothing above it can be seen. ``cpu.stat.local``
  still says there that the container was held back by a cgroup out of sight (``/..``, as the kernel writes it), and the
  agent on the machine knows by which. Without ``cpu.stat.local`` that is not measured.

What levels withheld does not add up: while a group is stopped by its own quota the group above may use up its own too,
the counters of both then count the same time, and a thread stands still only once. The truth lies between the largest
of them and their sum. Without ``cpu.stat.local`` we report the largest: the tighter quota stops the threads before the
looser one is used up, so in one period two levels rarely both bind. A level above also counts what it withheld from
others below it, on other CPUs.

Sources: v2 ``cpu.stat`` (``throttled_usec``, ``nr_throttled``; Linux 4.15), ``cpu.stat.local`` and ``cpu.max``; v1
``cpu.stat`` (``throttled_time`` in ns, ``nr_throttled``), ``cpu.stat.local``, ``cpu.cfs_quota_us`` and
``cpu.cfs_period_us``; kernel/sched/core.c, "add throttled time stat for throttled children".

Reading ``cpu.stat`` of a large v2 group makes the kernel add up its counters, so a level above is read only while it
has a quota. Limits change while processes run, so they are read again every second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from layerline.attributes import (
    CONTAINER_CPU_PERIOD_NS,
    CONTAINER_CPU_QUOTA_NS,
    CONTAINER_THROTTLED_BY,
    CONTAINER_THROTTLED_NS,
    CONTAINER_THROTTLED_PERIODS,
    CONTAINER_USAGE_NS,
)
from layerline.cgroup import UNIFIED, Cgroup
from layerline.container import in_path
from layerline.kernel import File

Parse = Callable[[bytes], int | None]

#: What throttled us cannot be seen from here.
OUT_OF_SIGHT: Final = "/.."
#: Limits are read again after this long (ns).
_CHECK_NS: Final = 1_000_000_000


def keyed(name: bytes, unit_ns: int) -> Parse:
    """The value of one key of a flat-keyed file (``cpu.stat``), in ns, or a count (unit 1); None where it is absent."""

    def parse(raw: bytes) -> int | None:
        fields = raw.split()
        try:
            return int(fields[fields.index(name) + 1]) * unit_ns
        except ValueError:
            return None

    return parse


_PERIODS: Final = keyed(b"nr_throttled", 1)
_THROTTLED: Final = {UNIFIED: keyed(b"throttled_usec", 1_000), "cpu": keyed(b"throttled_time", 1)}
_USAGE_V2: Final = keyed(b"usage_usec", 1_000)


class Level:
    """One cgroup: its ``cpu.stat`` and its quota."""

    __slots__ = ("_limits", "_stat", "kept", "path", "quota")

    def __init__(self, path: str, folder: Path, controller: str) -> None:
        """Raises OSError if it has no ``cpu.stat``."""
        self.path = path
        self._stat = File(str(folder / "cpu.stat"), 1024)
        self._limits: list[File] = []
        for name in ("cpu.max",) if controller == UNIFIED else ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
            try:
                self._limits.append(File(str(folder / name)))
            except OSError:  # the controller is not enabled for this group
                self._limits.clear()
                break
        self.quota: tuple[int, int] | None = None  # quota and period (ns)
        self.kept = b""  # cpu.stat, as read when the quota was looked at last

    def read(self) -> bytes:
        """Its ``cpu.stat`` now."""
        return self._stat.read()

    def check(self) -> None:
        """Look at its quota again; other threads may be reading it. Where it cannot be read there is none."""
        quota = None
        try:
            self.kept = self.read()
            fields = b" ".join([file.read() for file in self._limits]).split()
            if len(fields) == 2 and fields[0] not in (b"max", b"-1"):
                quota = (int(fields[0]) * 1_000, int(fields[1]) * 1_000)
        except (OSError, ValueError):  # gone, or a file of another shape: what it limits is not known
            pass
        self.quota = quota

    def described(self) -> list[tuple[str, int | str]]:
        """Its quota as attributes."""
        if self.quota is None:
            return []
        return [(CONTAINER_CPU_QUOTA_NS, self.quota[0]), (CONTAINER_CPU_PERIOD_NS, self.quota[1])]

    def close(self) -> None:
        """Close its files."""
        for file in (self._stat, *self._limits):
            file.close()


class Quotas:
    """The levels of one process, and which of them is its container.

    A reading is ``cpu.stat.local`` of the lowest level (empty where there is none), then ``cpu.stat`` of each.
    """

    def __init__(self, cgroup: Cgroup, contained: bool, now: int) -> None:
        """``contained``: the process runs in a container; else what is its own is the process's cgroup."""
        self._levels: list[Level] = []
        self._local: File | None = None
        self._own = 0  # which level is the container
        self._checked = 0  # when limits were looked at (ns, UTC)
        self._kept: tuple[bytes, ...] | None = ()  # of the levels above while none of them has a quota
        self._nothing: list[tuple[str, int | str]] = []  # the attributes where nothing was withheld
        for controller, throttled in _THROTTLED.items():
            self._throttled = throttled
            folders = cgroup.levels(controller)
            for path, folder in folders:
                try:
                    level = Level(path, folder, controller)
                    if not self._levels or throttled(level.read()) is not None:
                        self._levels.append(level)
                except OSError:
                    continue
            if any(throttled(level.read()) is not None for level in self._levels):
                self._local = local(folders[0][1], throttled)
                break
            self.close()
        #: The container's CPU time is in the same file.
        self.has_usage = contained and bool(self._levels) and _USAGE_V2(self._levels[0].read()) is not None
        paths = [level.path for level in self._levels]
        if paths and contained:
            self._own = container_among(paths)
        self._beyond = beyond(paths[-1]) if paths else OUT_OF_SIGHT
        self._check(now)

    def fits(self, reading: tuple[bytes, ...]) -> bool:
        """Whether the reading is of these levels: a fork may have come between."""
        return len(reading) == (len(self._levels) + 1 if self._levels else 0)

    def read(self, now: int, begun: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
        """A reading at ``now`` (ns, UTC). Where nothing was withheld since ``begun``, other levels are not asked."""
        levels = self._levels
        if not levels:
            return ()
        if not 0 <= now - self._checked < _CHECK_NS:
            self._check(now)
        own = b""
        if self._local is not None:
            own = self._local.read()
            if begun and begun[0] == own:
                return (own, levels[0].read(), *begun[2:]) if self.has_usage else begun
        if self._kept is not None:
            return (own, levels[0].read(), *self._kept)
        return (own, levels[0].read(), *[level.read() if level.quota else level.kept for level in levels[1:]])

    def gained(
        self, begun: tuple[bytes, ...], earlier: tuple[bytes, ...], ended: tuple[bytes, ...]
    ) -> list[tuple[str, int | str]]:
        """Attributes: what was withheld since ``earlier``, and by whose quota; CPU time used since ``begun``."""
        used: list[tuple[str, int | str]] = []
        if self.has_usage:
            used.append((CONTAINER_USAGE_NS, max(0, (_USAGE_V2(ended[1]) or 0) - (_USAGE_V2(begun[1]) or 0))))
        if earlier == ended or (self._local is not None and earlier[0] == ended[0]):  # mostly
            return used + self._nothing
        grown = [self._grown(before, after) for before, after in zip(earlier[1:], ended[1:], strict=True)]
        withheld = (
            self._grown(earlier[0], ended[0])
            if self._local is not None
            else max((growth for growth in grown if growth is not None), default=None)
        )
        if not withheld:
            return used + (self._nothing if withheld == 0 else [])
        own = grown[self._own] or 0
        by: int | None = self._own
        if (withheld - own if self._local is not None else withheld) > own:
            others = [(growth, i) for i, growth in enumerate(grown) if growth and i != self._own]
            by = max(others)[1] if others else None
        found = [*used, (CONTAINER_THROTTLED_NS, withheld)]
        if by != self._own:
            found.append((CONTAINER_THROTTLED_BY, self._levels[by].path if by is not None else self._beyond))
        if by is not None:
            periods = (_PERIODS(ended[by + 1]) or 0) - (_PERIODS(earlier[by + 1]) or 0)
            found += [(CONTAINER_THROTTLED_PERIODS, max(0, periods)), *self._levels[by].described()]
        return found

    def close(self) -> None:
        """Close all files."""
        for level in self._levels:
            level.close()
        self._levels = []
        if self._local is not None:
            self._local.close()
            self._local = None

    def _grown(self, before: bytes, after: bytes) -> int | None:
        """Throttled time (ns) between two readings of a file; None where it does not say."""
        if before == after and before:
            return 0 if self._throttled(after) is not None else None
        first, last = self._throttled(before), self._throttled(after)
        return last - first if first is not None and last is not None and last >= first else None

    def _check(self, now: int) -> None:
        """Look at all quotas."""
        self._checked = now
        for level in self._levels:
            level.check()
        above = self._levels[1:]
        self._kept = None if any(level.quota for level in above) else tuple([level.kept for level in above])
        if self._levels:
            zeros = [(CONTAINER_THROTTLED_NS, 0), (CONTAINER_THROTTLED_PERIODS, 0)]
            self._nothing = [*zeros, *self._levels[self._own].described()]


def local(folder: Path, throttled: Parse) -> File | None:
    """``cpu.stat.local`` of a cgroup; None before Linux 6.5."""
    try:
        file = File(str(folder / "cpu.stat.local"))
        return file if throttled(file.read()) is not None else None
    except OSError:
        return None


def beyond(path: str) -> str:
    """What is above the highest cgroup that can be seen: by name where there is only one, else ``/..``.

    On v1, and without a cgroup namespace, the path of our own says more than is mounted: ``/docker/<id>``.
    """
    above = path.rpartition("/")[0]
    return above if above.count("/") == 1 else OUT_OF_SIGHT


def container_among(paths: list[str]) -> int:
    """Which of these cgroups, from the process's own upwards, is its container.

    A container may have groups of its own inside (systemd makes them). The container is then the first one with an id
    in its name; in a cgroup namespace it is the root, ``/``.
    """
    for i, path in enumerate(paths):
        if in_path("/" + path.rpartition("/")[2]) is not None:
            return i
    return len(paths) - 1 if paths[-1] == "/" else 0
