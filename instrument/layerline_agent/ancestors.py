"""Limits above a container: an ECS task's, a Kubernetes pod's, a systemd slice's, ``docker run --cgroup-parent``.

Such a limit holds the container back while the container's own limits say nothing. Each cgroup above containers is read
once a tick, however many containers are below it. Its readings go out as series ``container.ancestor.*`` of each of
them, with its path in ``layerline.cgroup``, and only while it has a limit of that kind: most have none. Sources of the
kind ``above`` in the sensors say what is read.

The machine's root cgroup has no limits and is not read. Of a hierarchy that the agent sees only in part, what is above
that part is out of sight.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerline.attributes import CGROUP
from layerline_agent.cgroups import Tree
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.readings import UNREADABLE, Clock, Entity, Runs
from layerline_agent.sensor import Raw, Sensor, Source


class Shared:
    """One source of one cgroup, and the runs of each container below it."""

    __slots__ = ("_at_ns", "_below", "_contents", "_dimensions", "_files", "_limited", "_raws", "_source", "_stalls")

    def __init__(self, source: Source, path: str, directories: Mapping[str, str]) -> None:
        self._source = source
        self._stalls = source.stalls
        self._files = tuple(
            File(f"{directories[hierarchy]}/{name}")
            for hierarchy, _, name in (file.partition("/") for file in source.files)
        )
        self._dimensions = ((CGROUP, path),)
        self._below: dict[Entity, Runs] = {}
        self._limited = False
        self._contents: tuple[bytes | None, ...] | None = None
        self._raws: tuple[Raw, ...] = ()
        self._at_ns = 0

    def join(self, entity: Entity) -> None:
        """A container is below it from now on."""
        runs = self._below[entity] = Runs()
        entity.above.append(runs)
        self._contents = None  # the next reading is its first

    def leave(self, entity: Entity) -> None:
        """A container is not read any more."""
        self._below.pop(entity, None)

    def read(self, machine: Machine, clock: Clock, full: bool) -> None:
        """Read the files now; between full ticks only where there is a limit."""
        if not full and not (self._stalls and self._limited):
            return
        time_ns, contents = clock(), tuple([file.read() for file in self._files])
        if contents == self._contents:
            self._at_ns = time_ns
            if self._limited:
                for runs in self._below.values():
                    runs.stood_still(time_ns, full)
            return
        raws: tuple[Raw, ...] = ()
        if contents.count(None) < len(contents):
            raws = tuple(
                Raw(raw.signal, raw.value, (*self._dimensions, *raw.dimensions))
                for raw in self._source.read(machine, *contents)
            )
        limited = any(raw.signal.endswith(".limit") for raw in raws)
        for runs in self._below.values():
            if limited:
                if not self._limited:  # what it was before the limit: the increase since then is known
                    for raw in self._raws:
                        runs.began(raw, self._at_ns, raw.value)
                runs.read(time_ns, raws, full)
            elif self._limited:  # the last of it
                runs.flush()
                runs.read(time_ns, raws, full)
        self._limited, self._contents, self._raws, self._at_ns = limited, contents, raws, time_ns

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()


class Ancestor:
    """One cgroup above containers."""

    def __init__(self, path: str, directories: Mapping[str, str], sensors: Mapping[str, Sensor]) -> None:
        self.below: set[Entity] = set()
        self.sources = {
            name: [
                Shared(source, path, directories)
                for source in sensor.above_for(directories)
                if all(file.partition("/")[0] in directories for file in source.files)
            ]
            for name, sensor in sensors.items()
        }

    def join(self, entity: Entity) -> None:
        """A container is below it from now on."""
        self.below.add(entity)
        for sources in self.sources.values():
            for source in sources:
                source.join(entity)

    def leave(self, entity: Entity) -> None:
        """A container is not read any more; with the last of them the files are closed."""
        self.below.discard(entity)
        for sources in self.sources.values():
            for source in sources:
                source.leave(entity)
                if not self.below:
                    source.close()


class Ancestors:
    """All cgroups above the containers that are watched."""

    def __init__(self, tree: Tree, sensors: Mapping[str, Sensor], machine: Machine, clock: Clock) -> None:
        self._tree = tree
        self._sensors = sensors
        self._machine = machine
        self._clock = clock
        self._known: dict[str, Ancestor] = {}

    def join(self, entity: Entity, directories: Mapping[str, str]) -> None:
        """A container with these directories is watched from now on."""
        for path, above in self._tree.above(directories).items():
            if path not in self._known:
                self._known[path] = Ancestor(path, above, self._sensors)
            self._known[path].join(entity)

    def leave(self, entity: Entity) -> None:
        """A container is not watched any more."""
        for path, ancestor in list(self._known.items()):
            if entity in ancestor.below:
                ancestor.leave(entity)
                if not ancestor.below:
                    del self._known[path]

    def read(self, sensor: str, full: bool) -> None:
        """Read one sensor's files now. One unreadable file does not keep others from being read; then it raises."""
        problem: Exception | None = None
        for ancestor in self._known.values():
            for source in ancestor.sources[sensor]:
                try:
                    source.read(self._machine, self._clock, full)
                except UNREADABLE as caught:
                    problem = caught
        if problem is not None:
            raise problem
