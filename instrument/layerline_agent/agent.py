"""The agent's loop: look at what was discovered, read on two grids, send.

It sends after each interval. A server of which nobody asks anything says that every few seconds is enough
(``outbox.py``): then the readings of several intervals are one request, which costs both sides less. What happened (an
event, a container that ended) does not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf
from queue import Empty
from typing import Concatenate, ParamSpec, TypeVar

from layerline.attributes import CGROUP_PATH, CONTAINER_PARENT, THROTTLED_SCOPE, VERSION
from layerline.container import in_path
from layerline.hangup import differences
from layerline.notify import READY, STOPPING, WATCHDOG, notify
from layerline.version import UNKNOWN, own_version
from layerline_agent.ancestors import Ancestors
from layerline_agent.cgroups import Tree, counts_above, processes
from layerline_agent.clock import ClockWatch
from layerline_agent.containers import Container
from layerline_agent.detectors import detect
from layerline_agent.discovery import Discovery, Event, Gone, Seen, Sighting
from layerline_agent.docker_stats import SOURCE, DockerStats, Told
from layerline_agent.encode import Encoder, logs, noticed
from layerline_agent.endings import Ended, Endings
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.noticed import Noticed, dropped
from layerline_agent.outbox import LOGS, METRICS, Outbox
from layerline_agent.readings import Entity, Series
from layerline_agent.saying import failed, say
from layerline_agent.scrape import Scraper
from layerline_agent.sensor import Dimensions, Sensor, all_sensors
from layerline_agent.settings import Settings

#: What the settings file calls fields of other names.
_NAMES = {"headers": "token", "interval_ns": "interval", "fine_ns": "fine", "spool_ns": "spool_age"}

#: How long a stopping agent tries to send what it still has.
FLUSH_S = 2.0

#: How long after its start a container is young, and how often what it used is read then, in seconds: many containers
#: live for less than a second, and what was read last is all that is known where its end cannot be read.
YOUNG_S = 5.0
POLL_S = 0.1


P = ParamSpec("P")
Read = TypeVar("Read")  # what is read: an entity, or the cgroups above


class SensorHealth:
    """How the sensors fare: whether each could read, and how long it took, over one interval."""

    def __init__(self, sensors: Mapping[str, Sensor]) -> None:
        self.spent_ns = dict.fromkeys(sensors, 0)
        self.problems: dict[str, Exception] = {}
        self._said: set[str] = set()

    def failed(self, sensor: str, problem: Exception) -> None:
        """It could not read something. Said once; counted in every interval."""
        self.problems[sensor] = problem
        if sensor not in self._said:
            self._said.add(sensor)
            say(f"sensor {sensor} cannot read: {problem}")

    def report(self, own: Own, time_ns: int) -> None:
        """Put both figures of each sensor among the agent's own readings, and begin anew."""
        for sensor, spent_ns in self.spent_ns.items():
            own.set(
                "layerline.sensor.success",
                0 if sensor in self.problems else 1,
                time_ns,
                (("layerline.sensor", sensor),),
            )
            own.set("layerline.sensor.duration", spent_ns, time_ns, (("layerline.sensor", sensor),))
            self.spent_ns[sensor] = 0
        self.problems.clear()


class Own(Entity):
    """What the agent says about itself, under the host's resource."""

    def __init__(self, attributes: Mapping[str, str | list[str] | int], start_ns: int) -> None:
        super().__init__(attributes, start_ns)
        self._own: dict[tuple[str, Dimensions], Series] = {}

    def set(self, signal: str, value: int, time_ns: int, dimensions: Dimensions = ()) -> None:
        """Its value as of this time."""
        series = self._own.setdefault((signal, dimensions), Series(signal, dimensions))
        series.value = value
        series.send(time_ns)

    @property
    def series(self) -> list[Series]:
        """All of them."""
        return list(self._own.values())


class Agent:
    """Reads this machine until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        discovery: Discovery,
        outbox: Outbox,
        clock: Callable[[], int] = time.time_ns,
        stats: DockerStats | None = None,
        tree: Tree | None = None,
        detected: Mapping[str, str] | None = None,
    ) -> None:
        """``detected``: where this machine is, as resource detectors say (``detectors.py``)."""
        self._settings = settings
        self._stats = stats
        self.scraper: Scraper | None = None
        self._machine = machine
        self._discovery = discovery
        self._outbox = outbox
        self._clock = clock
        self._sensors = all_sensors()
        self._tree = tree if tree is not None else Tree.of(machine)
        self._ancestors = Ancestors(self._tree, self._sensors, machine, clock)
        self._health = SensorHealth(self._sensors)
        self._encoder = Encoder()
        self._version = own_version() or UNKNOWN
        self._sent_s = -inf  # when something was handed to the outbox last, on the monotonic clock
        self._stopping = False
        self._said_no_cgroup = False
        self._watched: dict[str, tuple[Container, Entity]] = {}
        self._young: dict[str, float] = {}  # by container: until when, on the monotonic clock
        self._polled = 0.0
        self._endings = Endings(discovery.sightings.put)
        self._over: set[str] = set()  # their last process has ended, and what they used is known
        self._ended: list[Entity] = []  # gone, with points still to be sent
        self._events: list[Event] = []
        self._noticed: list[Noticed] = []
        self._clock_watch = ClockWatch(machine.path("proc", "uptime"), clock)
        tags = settings.tags
        self._machine_attributes: dict[str, str | list[str] | int] = {
            "host.id": machine.id,
            "host.name": machine.name,
            "layerline.boot_id": machine.boot_id,
            **(detected or {}),
            **machine.instance,
            **tags,
        }
        attributes = {**self._machine_attributes, "os.type": "linux"}
        directories = {"proc": machine.path("proc"), "network": machine.path("proc", machine.process, "net")}
        self._host = Entity.of("host", attributes, machine.booted_ns, directories, self._sensors, machine, clock)
        self._own = Own(attributes, clock())

    @property
    def machine_attributes(self) -> Mapping[str, str | list[str] | int]:
        """What is said of this machine, with its tags."""
        return self._machine_attributes

    @property
    def containers(self) -> int:
        """How many are watched now."""
        return len(self._watched)

    def stop(self) -> None:
        """End the loop after a last reading. May be called from a signal handler."""
        self._stopping = True
        self._discovery.sightings.put(None)

    def change(self, settings: Settings) -> str:
        """Send by other settings from now on: where, with which token. What was done, in one line."""
        self._outbox.change(settings.endpoint, settings.headers, settings.tls_ca)
        now = replace(self._settings, endpoint=settings.endpoint, headers=settings.headers, tls_ca=settings.tls_ca)
        done, later = differences(self._settings, now, _NAMES), differences(now, settings, _NAMES)
        self._settings = now
        said = f"settings read anew; changed: {', '.join(done) or 'nothing'}"
        return said + (f"; from the next start on: {', '.join(later)}" if later else "")

    def run(self) -> None:
        """Read and send until ``stop``. systemd is told so, where it waits for that."""
        notify(READY)
        steps = self._settings.steps
        step_s = self._settings.interval_ns / steps / 1e9
        due = time.monotonic()
        tick = 0
        while not self._stopping:
            self._look(due)
            if self._stopping:
                break
            self.poll()
            if time.monotonic() < due:
                continue
            self.read(full=tick % steps == 0)
            if tick % steps == 0:
                if self._is_due(time.monotonic()):
                    self.send()
                notify(WATCHDOG)
            tick += 1
            # After a pause (a suspended machine, a busy one) go on from now: no burst of readings to catch up.
            due = max(due + step_s, time.monotonic())
        notify(STOPPING)
        self.read(full=True)
        self.send()
        if self.scraper is not None:
            self.scraper.close()
        left = self._outbox.close(FLUSH_S)
        self._discovery.stop()
        self._endings.close()
        self._clock_watch.close()
        if self._stats is not None:
            self._stats.close()
        if left:
            say(f"stopped; {left} points could not be sent")

    def _is_due(self, now_s: float) -> bool:
        """Whether to send after this interval: something happened, or what the next one brings would come too late."""
        happened = self._events or self._noticed or self._ended
        interval_s = self._settings.interval_ns / 1e9
        return bool(happened) or now_s + 0.9 * interval_s - self._sent_s > self._outbox.every_s

    def look(self) -> None:
        """Take in what was discovered so far."""
        self._look(time.monotonic())

    def _look(self, due: float) -> None:
        """Take in what is discovered until this time, or until the young ones are due; at least once."""
        while True:
            until = min(due, self._polled + POLL_S) if self._young else due
            try:
                sighting = self._discovery.sightings.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return
            if sighting is None:
                return
            try:
                self._take(sighting)
            except Exception as problem:  # it costs what was seen, and nothing more
                failed("taking in what was discovered", problem)

    def _take(self, sighting: Sighting) -> None:
        if isinstance(sighting, Event):
            self._events.append(sighting)
        elif isinstance(sighting, Noticed):
            self._noticed.append(sighting)
        elif isinstance(sighting, Gone):
            self._end(sighting)
        elif isinstance(sighting, Ended):
            self._ended_now(sighting)
        elif isinstance(sighting, Told):
            if sighting.container_id in self._watched:
                self._watched[sighting.container_id][1].told.read(sighting.time_ns, sighting.raws, full=True)
        else:
            self._see(sighting)

    def _see(self, seen: Seen) -> None:
        container = seen.container
        known = self._watched.get(container.id)
        same_run = known is not None and (known[0].started_ns, known[0].inode, known[0].directories) == (
            container.started_ns,
            container.inode,
            container.directories,
        )
        if known is not None and same_run:
            known[1].attributes = self._attributes(container)
            known[1].held = not seen.described
            self._watched[container.id] = (container, known[1])
            return
        if not container.directories and not self._said_no_cgroup:
            self._said_no_cgroup = True
            who = container.name or container.id[:12]
            instead = "the Docker stats API is asked about it" if self._stats else "nothing is read for it"
            say(f"no cgroup of container {who} on this machine: {instead} and others alike")
        self._forget(container.id)  # without a last reading: its files are the new run's already
        entity = Entity.of(
            "container",
            self._attributes(container),
            container.started_ns,
            container.directories,
            self._sensors,
            self._machine,
            self._clock,
        )
        entity.held = not seen.described
        self._watched[container.id] = (container, entity)
        self._ancestors.join(entity, container.directories)
        for sensor in self._sensors:  # at once: it may not live until the next tick
            self._read_sensor(sensor, (entity,), Entity.read, True)
        if container.directories:
            files = [path for readers in entity.total_readers.values() for reader in readers for path in reader.paths]
            self._endings.watch(container.id, processes(container.directories), files)
        age_s = (self._clock() - container.started_ns) / 1e9 if container.started_ns else 0.0
        if entity.total_readers and age_s < YOUNG_S:
            self._young[container.id] = time.monotonic() + YOUNG_S - max(0.0, age_s)

    def _attributes(self, container: Container) -> dict[str, str | list[str] | int]:
        """Its resource: with the host's attributes, its place in the tree, and where its readings come from instead."""
        if not container.directories:
            return {**container.attributes, **self._machine_attributes, **SOURCE}
        place: dict[str, str | list[str] | int] = {}
        if paths := self._tree.paths(container.directories):
            path = next(paths[hierarchy] for hierarchy in ("cpu", "memory", *paths) if hierarchy in paths)
            place[CGROUP_PATH] = path
            if parent := in_path(path.rpartition("/")[0]):
                place[CONTAINER_PARENT] = parent
        if not counts_above(container.directories):
            place[THROTTLED_SCOPE] = "own"
        return {**container.attributes, **place, **self._machine_attributes}

    def _ended_now(self, ended: Ended) -> None:
        """Its last process has ended: its counters will not move any more."""
        if ended.container_id in self._watched:
            entity = self._watched[ended.container_id][1]
            fine = [
                self._read_sensor(name, (entity,), Entity.ended, ended.time_ns, ended.contents)
                for name in entity.total_readers
            ]
            if all(fine):
                self._over.add(ended.container_id)
            self._young.pop(ended.container_id, None)

    def _end(self, gone: Gone) -> None:
        """Where its end was not read: a last reading, which mostly comes too late. Its cgroup is gone before this."""
        if gone.container_id in self._watched:
            entity = self._watched[gone.container_id][1]
            if gone.container_id not in self._over:
                for sensor in self._sensors:
                    self._read_sensor(sensor, (entity,), Entity.read, True)
            elif gone.time_ns:
                entity.died(gone.time_ns)
            self._forget(gone.container_id)

    def _forget(self, container_id: str) -> None:
        _, entity = self._watched.pop(container_id, (None, None))
        self._young.pop(container_id, None)
        self._over.discard(container_id)
        self._endings.forget(container_id)
        if entity is not None:
            self._ancestors.leave(entity)
            entity.held = False
            entity.close()
            self._ended.append(entity)

    def poll(self) -> None:
        """Read what the young ones used so far, where that is due. It is sent with the next reading that is."""
        now = time.monotonic()
        if self._young and now >= self._polled + POLL_S:
            self._polled = now
            self._young = {container_id: until for container_id, until in self._young.items() if until > now}
            young = [self._watched[container_id][1] for container_id in self._young]
            for name, sensor in self._sensors.items():
                if sensor.totals:
                    self._read_sensor(name, young, Entity.poll)

    def read(self, full: bool) -> None:
        """One tick: everything when ``full``, else the stall counters."""
        self._look_at_the_clock()
        entities = [entity for _, entity in self._watched.values()]
        if full and self._stats is not None:
            self._stats.ask(key for key, (container, _) in self._watched.items() if not container.directories)
        for name, sensor in self._sensors.items():
            self._read_sensor(name, (self._host,) if sensor.entity == "host" else entities, Entity.read, full)
            if sensor.above or sensor.above_v1:
                self._read_sensor(name, (self._ancestors,), Ancestors.read, full)
        if full:
            self._read_itself()

    def _read_itself(self) -> None:
        """What the agent says about itself, once each interval."""
        now_ns = self._clock()
        self._health.report(self._own, now_ns)
        self._own.set("layerline.agent.dropped_points", self._outbox.dropped, now_ns)
        self._own.set("layerline.agent.running", 1, now_ns, ((VERSION, self._version),))
        if (offset := self._outbox.offset) is not None:
            self._own.set("layerline.agent.clock_offset", offset.ahead_ns, now_ns)
            self._own.set("layerline.agent.clock_uncertainty", offset.uncertain_ns, now_ns)

    def _look_at_the_clock(self) -> None:
        try:
            if (step := self._clock_watch.look()) is not None:
                say(step.body)
                self._noticed.append(step)
        except Exception as problem:  # nobody can say whether it was set
            failed("looking at the clock", problem)

    def _read_sensor(
        self,
        name: str,
        entities: Iterable[Read],
        read: Callable[Concatenate[Read, str, P], None],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> bool:
        """Read one sensor of these entities, by a method of theirs; whether nothing was in the way."""
        began_ns = time.perf_counter_ns()
        fine = True
        for entity in entities:
            try:
                read(entity, name, *arguments, **named)
            except Exception as problem:  # a sensor that fails costs its own readings and nothing more
                self._health.failed(name, problem)
                fine = False
        self._health.spent_ns[name] += time.perf_counter_ns() - began_ns
        return fine

    def send(self) -> None:
        """Hand everything that waits to the outbox: one request of metrics, and one of events if there were any."""
        try:
            self._send()
        except Exception as problem:  # it costs the readings of this interval
            failed("sending", problem)

    def _send(self) -> None:
        self._sent_s = time.monotonic()
        watched = [entity for _, entity in self._watched.values() if not entity.held]
        entities = [self._host, self._own, *watched, *self._ended]
        message, points = self._encoder.metrics(entities)
        self._outbox.put(METRICS, message, points)
        self._ended.clear()
        events, self._events = self._events, []
        if events:
            self._outbox.put(LOGS, logs(events, self._machine_attributes), len(events))
        about, self._noticed = [*self._noticed, *map(dropped, self._outbox.losses())], []
        if about:
            self._outbox.put(LOGS, noticed(about, self._machine_attributes), len(about))


def build(settings: Settings) -> tuple[Agent, str]:
    """An agent that has looked around once, and the line that says what it watches and where it sends."""
    File.keep_many()
    machine = Machine(settings.root)
    tree = Tree.of(machine)
    discovery = Discovery(machine, tree)
    outbox = Outbox(
        settings.endpoint,
        settings.headers,
        settings.buffer_bytes,
        spool=settings.spool,
        spool_bytes=settings.spool_bytes,
        spool_ns=settings.spool_ns,
        tls_ca=settings.tls_ca,
    )
    agent = Agent(
        settings,
        machine,
        discovery,
        outbox,
        stats=DockerStats(discovery.sightings.put),
        tree=tree,
        detected=detect(settings.detectors, say),
    )
    discovery.start()
    agent.look()
    agent.scraper = Scraper(settings.scrape, settings.scrape_ns, agent.machine_attributes, outbox.put)
    agent.scraper.start()
    with_docker = f"Docker {discovery.docker_version}" if discovery.docker_version else "no Docker"
    count = f"{agent.containers} container{'s' * (agent.containers != 1)}"
    line = (
        f"watching host {machine.name} and {count} ({with_docker}, cgroup {tree.version}) "
        f"every {settings.interval_ns / 1e9:g} s, stalls every {settings.interval_ns / settings.steps / 1e6:g} ms; "
        f"sending to {settings.endpoint}"
        + (f"; reading {', '.join(target.url for target in settings.scrape)}" if settings.scrape else "")
    )
    return agent, line
