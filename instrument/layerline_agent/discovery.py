"""Which containers are there: from Docker's listing and events, and by walking cgroups for what Docker does not manage.

Threads look, and put what they see into one queue; the agent's own loop never waits for Docker. A container that starts
is seen at once, by its cgroup and what the event says of it: Docker is asked about it afterwards, because that takes
longer than some containers live.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from layerline.attributes import CONTAINER_GONE, SEEN_FROM_NS, SEEN_TO_NS
from layerline_agent import network
from layerline_agent.cgroups import UNIFIED, Tree, cpuset, pids
from layerline_agent.containers import Container, from_event, from_inspect, time_ns
from layerline_agent.docker_stats import Told
from layerline_agent.endings import Ended
from layerline_agent.machine import Machine
from layerline_agent.noticed import Noticed, engine_away
from layerline_agent.pods import names
from layerline_agent.saying import failed, say

#: The events of Docker that are passed on, under ``container.<name>``.
EVENTS = ("start", "die", "oom", "kill", "restart", "pause", "unpause", "health_status", "rename", "update")

#: How many events are remembered by what they were, so that none is told twice. Docker itself remembers 256.
TOLD = 1024

#: Where an engine puts containers unless it is told otherwise, by cgroup driver: ``cgroupfs`` and ``systemd``.
USUAL_PATHS = ("/docker/{}", "/system.slice/docker-{}.scope")

#: How long to wait before asking Docker again, in seconds: doubled up to the second. Docker remembers 256 events, which
#: is six seconds of twenty containers a second: what happens between its return and our asking must not be more.
RETRY_S = (0.25, 2.0)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container."""

    name: str
    """``container.start``, ``container.die``, …"""
    time_ns: int
    """When, by Docker's clock."""
    container: Container
    body: str
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """A container that runs; again when it was restarted, renamed or its limits were changed."""

    container: Container
    described: bool = True
    """False when it has just started and Docker has not been asked about it: it is seen again soon."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A container that does not run any more."""

    container_id: str
    time_ns: int = 0
    """When it died, by Docker's clock; 0 where unknown."""


Sighting = Event | Seen | Gone | Ended | Told | Noticed


def docker_time(time_ns: int) -> str:
    """A time as Docker's API takes it: ``1795579369.464888347``."""
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"


def inode(directories: Mapping[str, str]) -> int:
    """The inode of a container's cgroup directory, as its own processes see it too; 0 where unknown.

    With v2 there is one directory. With v1 each controller has one, and the cpu controller's is taken, as the wrapper
    does (``layerline.cgroup``); the unified one of a hybrid machine is not visible inside.
    """
    directory = directories.get("cpu") or directories.get(UNIFIED)
    with suppress(OSError):
        return os.stat(directory).st_ino if directory else 0
    return 0


def same_run(container: Container) -> bool:
    """Whether its cgroup is the one it had: a container that starts again gets a new directory."""
    return bool(container.inode) and inode(container.directories) == container.inode


def described(message: Mapping[str, Any], container: Container) -> Event:
    """An event of Docker's stream (``GET /events``) as ours."""
    action, _, detail = str(message["Action"]).partition(": ")
    told: Mapping[str, str] = message["Actor"].get("Attributes") or {}
    attributes: dict[str, str | int] = {}
    if (exit_code := told.get("exitCode")) is not None:
        attributes["process.exit.code"] = int(exit_code)
    if signal := told.get("signal"):
        attributes["layerline.signal"] = int(signal) if signal.isdigit() else signal
    if old_name := told.get("oldName"):
        attributes["layerline.container.previous_name"] = old_name.lstrip("/")
    if detail:
        attributes["layerline.container.health"] = detail
    told_of = f"container {container.name or container.id[:12]}: {action}"
    values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in attributes.items())
    body = f"{told_of} ({values})" if values else told_of
    return Event(f"container.{action}", int(message["timeNano"]), container, body, attributes)


def gone(container: Container, from_ns: int, to_ns: int) -> Event:
    """A container has ended between these moments. Nobody told of it: neither when nor with which code is known."""
    body = f"container {container.name or container.id[:12]}: ended while its engine did not answer"
    return Event(CONTAINER_GONE, to_ns, container, body, {SEEN_FROM_NS: from_ns, SEEN_TO_NS: to_ns})


class Discovery:
    """Watches what runs on this machine, from ``start`` until ``stop``."""

    def __init__(self, machine: Machine, tree: Tree, walk_every_s: float = 5.0) -> None:
        self.sightings: SimpleQueue[Sighting | None] = SimpleQueue()
        """What was seen, in order. The agent's loop takes from it; None only wakes it."""
        self.docker_version = ""
        """Of the Engine, while it answers; else empty."""
        self._machine = machine
        self._tree = tree
        self._walk_every_s = walk_every_s
        self._stopped = threading.Event()
        self._managed: dict[str, Container] = {}  # the walking thread only looks ids up
        self._lock = threading.Lock()  # over what is managed and telling of it, between the two Docker threads
        self._starting: SimpleQueue[str | None] = SimpleQueue()  # to be described
        self._places: list[dict[str, str]] = []  # where containers were found, by hierarchy, with {} for the id
        self._walked: dict[str, Container] = {}  # by the walking thread alone
        self._unclaimed: set[str] = set()  # seen by one walk, not yet told by Docker
        self._last_walk_ns = 0
        self._missed: dict[str, tuple[int, int]] = {}  # gone while Docker was away: between which two walks
        self._away_ns = 0  # since when Docker has not answered, where it did before
        self._client: docker.DockerClient | None = None
        self._stream: Any = None
        self._began_ns = self._since_ns = time.time_ns()
        self._told: dict[tuple[str, str, int], None] = {}  # the last events: container, action, time
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Look once, so that the caller knows what there is, then go on in the background."""
        try:
            self._connect()
        except (DockerException, requests.RequestException, OSError) as problem:
            say(
                f"no Docker Engine answers ({_reason(problem)}): containers are found by walking cgroups, without names"
            )
        self._walk()
        for target in (self._follow, self._describe_on, self._walk_on):
            thread = threading.Thread(target=target, name=f"layerline-{target.__name__.strip('_')}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads and the connection to Docker."""
        self._stopped.set()
        self._starting.put(None)
        with suppress(Exception):  # a stream that just ended has no socket left to shut down
            if self._stream is not None:
                self._stream.close()
        for thread in self._threads:
            thread.join(timeout=1.0)
        if self._client is not None:
            self._client.close()

    # ---- Docker

    def _connect(self) -> None:
        """Reach the Engine; tell what happened while it was not reached, subscribe to its events and list what runs."""
        again = self._client is not None
        if self._client is not None:
            self._client.close()
        self._client = client = docker.from_env(timeout=10)
        version = str(client.version()["Version"])
        since_ns, kinds = self._since_ns, {"type": ["container"], "event": list(EVENTS)}
        now: Any = docker_time(time.time_ns())  # the client would take a datetime, and cut it to seconds
        for message in client.api.events(since=since_ns // 10**9, until=now, filters=kinds, decode=True):
            self._happened(message)
        self._stream = client.api.events(since=self._since_ns // 10**9, filters=kinds, decode=True)
        running = {entry["Id"] for entry in client.api.containers(quiet=True)}
        for container_id in running:
            known = self._managed.get(container_id)
            if known is not None and known.inode and not same_run(known):
                self._died_unseen(container_id)
                if began_ns := time_ns(self._state(container_id).get("StartedAt", "")):
                    self._synthesize(container_id, "start", began_ns)
            else:
                self._inspect(container_id)
        for container_id in self._managed.keys() - running:
            self._died_unseen(container_id)
        if again:
            self._lived_unseen(since_ns)
        self.docker_version = version

    def _died_unseen(self, container_id: str) -> None:
        """A run that is over, and no event told: Docker still says when and, unless it runs again, with which code."""
        state = self._state(container_id)
        if died_ns := time_ns(state.get("FinishedAt", "")):
            told = {} if state["Running"] else {"exitCode": str(state["ExitCode"])}
            self._synthesize(container_id, "die", died_ns, **told)
        elif (known := self._managed.get(container_id)) is not None:  # removed meanwhile: nobody knows when it died
            now_ns = time.time_ns()
            self.sightings.put(gone(known, *self._missed.get(container_id, (self._away_ns or now_ns, now_ns))))
            self._forget(container_id, 0)

    def _lived_unseen(self, since_ns: int) -> None:
        """Containers that were made and have ended since then, and that no event told of."""
        assert self._client is not None
        told = {container_id for container_id, action, _ in self._told if action == "die"}
        for entry in self._client.api.containers(all=True, filters={"status": ["exited", "dead"]}):
            if entry["Created"] >= since_ns // 10**9 and entry["Id"] not in told:
                state = self._state(entry["Id"])
                if (began_ns := time_ns(state.get("StartedAt", ""))) and not state["Running"]:
                    self._synthesize(entry["Id"], "start", began_ns)
                    self._died_unseen(entry["Id"])

    def _state(self, container_id: str) -> Mapping[str, Any]:
        """What Docker says of a container's state; nothing where it does not know it any more."""
        assert self._client is not None
        try:
            state: Mapping[str, Any] = self._client.api.inspect_container(container_id)["State"]
        except NotFound:
            return {}
        return state

    def _synthesize(self, container_id: str, action: str, at_ns: int, **told: str) -> None:
        """An event that Docker did not tell, from what it says of the container."""
        container = self._managed.get(container_id) or self._inspect(container_id) or Container(container_id)
        message = {"Action": action, "Actor": {"ID": container_id, "Attributes": told}, "timeNano": at_ns}
        self.sightings.put(described(message, container))
        if action == "die":
            self._forget(container_id, at_ns)

    def _follow(self) -> None:
        """Follow the events; when Docker goes away, ask again until it is back."""
        wait_s = RETRY_S[0]
        while not self._stopped.is_set():
            try:
                if not self.docker_version:
                    self._connect()
                    say(f"Docker {self.docker_version} answers")
                    if self._away_ns:
                        self.sightings.put(engine_away(self._away_ns, max(self._away_ns, time.time_ns())))
                    self._away_ns = 0
                    self._missed.clear()
                wait_s = RETRY_S[0]
                for message in self._stream:
                    self._happened(message)
                problem: Exception | None = None
            except Exception as caught:  # whatever a broken connection makes the client raise: ask again
                problem = caught
            if self._stopped.is_set():
                return
            if self.docker_version:
                self.docker_version = ""
                self._away_ns = time.time_ns()
                say(f"Docker went away ({_reason(problem) if problem else 'its event stream ended'}); asking again")
            self._stopped.wait(wait_s)
            wait_s = min(2 * wait_s, RETRY_S[1])

    def _inspect(self, container_id: str) -> Container | None:
        """Ask Docker about a container and report it where it runs; None where Docker does not know it any more."""
        container, running = self._ask(container_id)
        if container is not None and running:
            with self._lock:
                self._managed[container_id] = container
                self.sightings.put(Seen(container))
        return container

    def _ask(self, container_id: str) -> tuple[Container | None, bool]:
        """What Docker says of a container, and whether it runs; None where Docker does not know it any more."""
        assert self._client is not None
        try:
            answer = self._client.api.inspect_container(container_id)
        except NotFound:
            return None, False
        state, known = answer["State"], self._managed.get(container_id)
        if known is not None and same_run(known) and state["Running"]:
            # Docker's StartedAt is some ms beside its event, and the counters began only once.
            container = from_inspect(answer, known.directories, known.inode, cpuset(known.directories))
            return replace(container, started_ns=known.started_ns), True
        directories = self._tree.directories_of(self._machine, state["Pid"], container_id) if state["Pid"] else {}
        if state["Pid"] and not directories:  # another cgroup namespace than Docker's: look for the id itself
            directories = next((self._tree.directories(f.path) for f in self._tree.walk() if f.id == container_id), {})
        place = {hierarchy: directory.replace(container_id, "{}") for hierarchy, directory in directories.items()}
        if place and place not in self._places:
            self._places = [place, *self._places[:7]]
        seen_inode, cpus = inode(directories), cpuset(directories)
        if directories and (where := network.directory(self._machine, state["Pid"])):
            directories = {**directories, "network": where}
        return from_inspect(answer, directories, seen_inode, cpus), bool(state["Running"])

    def _guess(self, container_id: str) -> dict[str, str]:
        """Its cgroup directories where others of this Engine are, or usually are; empty where it is in none of these.

        They are the same for all of a daemon but those with a ``--cgroup-parent`` of their own.
        """
        for place in self._places:
            there = {hierarchy: directory.replace("{}", container_id) for hierarchy, directory in place.items()}
            if found := {hierarchy: directory for hierarchy, directory in there.items() if os.path.isdir(directory)}:
                return found
        for path in USUAL_PATHS:
            if found := self._tree.directories(path.format(container_id)):
                return found
        return {}

    def _started(self, container_id: str, at_ns: int, told: Mapping[str, str]) -> Container:
        """A container that has just started, as far as its cgroup and the event tell. It is to be described soon."""
        directories = self._guess(container_id)
        container = replace(
            from_event(container_id, told),
            directories={**directories, **self._network(container_id, directories)},
            started_ns=at_ns,
            inode=inode(directories),
            cpuset=cpuset(directories),
        )
        with self._lock:
            self._managed[container_id] = container
            if directories:
                self.sightings.put(Seen(container, described=False))
        self._starting.put(container_id)
        return container

    def _describe_on(self) -> None:
        """Ask Docker about what has just started, one after the other."""
        while (container_id := self._starting.get()) is not None:
            if container_id not in self._managed:
                continue  # it has ended: what its events tell has to do
            try:
                container, running = self._ask(container_id)
            except Exception:  # whatever a broken connection makes the client raise; on the next one it is listed
                container, running = None, False
            with self._lock:
                if (known := self._managed.get(container_id)) is not None:
                    if container is not None and running:
                        self._managed[container_id] = known = container
                    if known is container or known.directories:
                        self.sightings.put(Seen(known))

    def _forget(self, container_id: str, at_ns: int) -> None:
        with self._lock:
            self._managed.pop(container_id, None)
            self.sightings.put(Gone(container_id, at_ns))

    def _happened(self, message: Mapping[str, Any]) -> None:
        """One event, unless it was told: what runs is brought up to date first, then the event is passed on."""
        container_id: str = message["Actor"]["ID"]
        told: Mapping[str, str] = message["Actor"].get("Attributes") or {}
        action, at_ns = str(message["Action"]).partition(":")[0], int(message["timeNano"])
        key = (container_id, str(message["Action"]), at_ns)
        if at_ns < self._began_ns or key in self._told:  # before we looked, or told before the stream broke
            return
        self._told[key] = None
        if len(self._told) > TOLD:
            del self._told[next(iter(self._told))]
        self._since_ns = max(self._since_ns, at_ns)  # of two at once, either may come first
        container = self._managed.get(container_id)
        if container is None and action == "start":
            container = self._started(container_id, at_ns, told)
        elif action in {"start", "rename", "update"} or container is None:
            container = self._inspect(container_id) or container or from_event(container_id, told)
        self.sightings.put(described(message, container))
        if action == "die":
            self._forget(container_id, at_ns)

    # ---- cgroups

    def _walk_on(self) -> None:
        while not self._stopped.wait(self._walk_every_s):
            try:
                self._walk()
            except Exception as problem:  # a cgroup that goes away in an unforeseen way: the next walk sees the rest
                failed("walking the cgroups", problem)

    def _walk(self) -> None:
        """Find what Docker does not manage; while Docker is away, also what it managed and is gone."""
        before_ns, self._last_walk_ns = self._last_walk_ns, time.time_ns()
        found = {cgroup.id: cgroup for cgroup in self._tree.walk()}
        unclaimed = found.keys() - self._managed.keys()
        pods = names(self._machine) if unclaimed else {}
        for container_id in unclaimed:
            # A container that Docker has just started is here before its event: wait one walk for the event.
            if self.docker_version and container_id not in self._unclaimed:
                continue
            directories = self._tree.directories(found[container_id].path)
            container = Container(
                container_id,
                {**directories, **self._network(container_id, directories)},
                runtime=found[container_id].runtime,
                pod_uid=found[container_id].pod_uid,
                pod=pods.get(container_id, {}),
                inode=inode(directories),
                cpuset=cpuset(directories),
            )
            if self._walked.get(container_id) != container:
                self._walked[container_id] = container
                self.sightings.put(Seen(container))
        self._unclaimed = set(unclaimed)
        between = (before_ns, max(before_ns, self._last_walk_ns))
        for container_id in self._walked.keys() - unclaimed:
            walked = self._walked.pop(container_id)
            if container_id not in self._managed:
                if self._away_ns:  # Docker may have started it meanwhile
                    self.sightings.put(gone(walked, *between))
                self.sightings.put(Gone(container_id))
        if not self.docker_version:
            for container_id in self._managed.keys() - found.keys():
                self._missed.setdefault(container_id, between)
                self.sightings.put(Gone(container_id))

    def _network(self, container_id: str, directories: Mapping[str, str]) -> dict[str, str]:
        """Where its network files are: of the process taken at the last walk while it lives, else of another one."""
        processes = pids(directories)
        before = self._walked.get(container_id)
        if before and (known := before.directories.get("network")) and int(known.split("/")[-2]) in processes:
            return {"network": known}
        where = network.directory(self._machine, processes[0]) if processes else None
        return {"network": where} if where else {}


def _reason(problem: Exception) -> str:
    """The last and most telling part of a nested connection error."""
    text = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return text if len(text) <= 160 else f"{text[:157]}…"
