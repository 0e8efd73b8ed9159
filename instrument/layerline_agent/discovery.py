"""Which containers are there: from Docker's listing and events, and by walking cgroups for what Docker does not manage.

Two threads look, and put what they see into one queue; the agent's own loop never waits for Docker.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from layerline_agent import network
from layerline_agent.cgroups import UNIFIED, Tree, cpuset, pids
from layerline_agent.containers import Container, from_event, from_inspect
from layerline_agent.machine import Machine

#: The events of Docker that are passed on, under ``container.<name>``.
EVENTS = ("start", "die", "oom", "kill", "restart", "pause", "unpause", "health_status", "rename", "update")

#: How long to wait before asking Docker again, in seconds: doubled up to the second.
RETRY_S = (0.25, 10.0)


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


@dataclass(frozen=True, slots=True)
class Gone:
    """A container that does not run any more."""

    container_id: str


Sighting = Event | Seen | Gone


def say(line: str) -> None:
    """One line for the person who runs the agent."""
    print(f"layerline agent: {line}", file=sys.stderr, flush=True)


def inode(directories: Mapping[str, str]) -> int:
    """The inode of a container's cgroup directory, as its own processes see it too; 0 where unknown.

    With v2 there is one directory. With v1 each controller has one, and the cpu controller's is taken, as the wrapper
    does (``layerline.cgroup``); the unified one of a hybrid machine is not visible inside.
    """
    directory = directories.get("cpu") or directories.get(UNIFIED)
    with suppress(OSError):
        return os.stat(directory).st_ino if directory else 0
    return 0


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
        self._managed: dict[str, Container] = {}  # by the Docker thread alone; the walking thread looks ids up
        self._walked: dict[str, Container] = {}  # by the walking thread alone
        self._unclaimed: set[str] = set()  # seen by one walk, not yet told by Docker
        self._client: docker.DockerClient | None = None
        self._stream: Any = None
        self._since_ns = time.time_ns()
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
        for target in (self._follow, self._walk_on):
            thread = threading.Thread(target=target, name=f"layerline-{target.__name__.strip('_')}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End both threads and the connection to Docker."""
        self._stopped.set()
        with suppress(Exception):  # a stream that just ended has no socket left to shut down
            if self._stream is not None:
                self._stream.close()
        for thread in self._threads:
            thread.join(timeout=1.0)
        if self._client is not None:
            self._client.close()

    # ---- Docker

    def _connect(self) -> None:
        """Reach the Engine, subscribe to its events from where the last stream ended, and list what runs."""
        if self._client is not None:
            self._client.close()
        self._client = client = docker.from_env(timeout=10)
        version = str(client.version()["Version"])
        self._stream = client.api.events(
            since=self._since_ns // 10**9, filters={"type": ["container"], "event": list(EVENTS)}, decode=True
        )
        running = {entry["Id"] for entry in client.api.containers(quiet=True)}
        for container_id in running:
            self._inspect(container_id)
        for container_id in self._managed.keys() - running:
            self._forget(container_id)
        self.docker_version = version

    def _follow(self) -> None:
        """Follow the events; when Docker goes away, ask again until it is back."""
        wait_s = RETRY_S[0]
        while not self._stopped.is_set():
            try:
                if not self.docker_version:
                    self._connect()
                    say(f"Docker {self.docker_version} answers")
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
                say(f"Docker went away ({_reason(problem) if problem else 'its event stream ended'}); asking again")
            self._stopped.wait(wait_s)
            wait_s = min(2 * wait_s, RETRY_S[1])

    def _inspect(self, container_id: str) -> Container | None:
        """Ask Docker about a container and report it where it runs; None where Docker does not know it any more."""
        assert self._client is not None
        try:
            answer = self._client.api.inspect_container(container_id)
        except NotFound:
            return None
        state = answer["State"]
        directories = self._tree.directories_of(self._machine, state["Pid"], container_id) if state["Pid"] else {}
        if state["Pid"] and not directories:  # another cgroup namespace than Docker's: look for the id itself
            directories = next((self._tree.directories(f.path) for f in self._tree.walk() if f.id == container_id), {})
        seen_inode, cpus = inode(directories), cpuset(directories)
        if directories and (where := network.directory(self._machine, state["Pid"])):
            directories = {**directories, "network": where}
        container = from_inspect(answer, directories, seen_inode, cpus)
        if state["Running"]:
            self._managed[container_id] = container
            self.sightings.put(Seen(container))
        return container

    def _forget(self, container_id: str) -> None:
        self._managed.pop(container_id, None)
        self.sightings.put(Gone(container_id))

    def _happened(self, message: Mapping[str, Any]) -> None:
        """One event: what runs is brought up to date first, then the event is passed on with the container's tags."""
        container_id: str = message["Actor"]["ID"]
        action = str(message["Action"]).partition(":")[0]
        if int(message["timeNano"]) < self._since_ns:  # before we looked, or told before the stream broke
            return
        self._since_ns = int(message["timeNano"]) + 1
        container = self._managed.get(container_id)
        if action in {"start", "rename", "update"} or container is None:
            container = self._inspect(container_id) or container
        if container is None:
            container = from_event(container_id, message["Actor"].get("Attributes") or {})
        self.sightings.put(described(message, container))
        if action == "die":
            self._forget(container_id)

    # ---- cgroups

    def _walk_on(self) -> None:
        while not self._stopped.wait(self._walk_every_s):
            self._walk()

    def _walk(self) -> None:
        """Find what Docker does not manage; while Docker is away, also what it managed and is gone."""
        found = {cgroup.id: cgroup for cgroup in self._tree.walk()}
        unclaimed = found.keys() - self._managed.keys()
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
                inode=inode(directories),
                cpuset=cpuset(directories),
            )
            if self._walked.get(container_id) != container:
                self._walked[container_id] = container
                self.sightings.put(Seen(container))
        self._unclaimed = set(unclaimed)
        for container_id in self._walked.keys() - unclaimed:
            del self._walked[container_id]
            if container_id not in self._managed:
                self.sightings.put(Gone(container_id))
        if not self.docker_version:
            for container_id in self._managed.keys() - found.keys():
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
