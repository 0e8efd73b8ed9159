"""One container under test: where it runs, how it is reached, who else is there. What is done to it: ``injectors``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from benchmarks.lab.way import Way
from layerline_api.demo.intruders import Intruders
from layerline_api.demo.layout import numbers_of
from layerline_api.demo.load import one
from layerline_api.demo.place import DemoError, Entity, Service, wait_ready

if TYPE_CHECKING:
    from benchmarks.lab.injectors.parent_cgroup import Parent
    from benchmarks.lab.stage import Stage

PORT = 8000
#: Who is there beside it: called and not instrumented, called and dying, called and instrumented, PostgreSQL.
SUPPLIER, CALLEE, PARTNER, DATABASE = "supplier", "callee", "partner", "postgres"
#: For so long each thread of a server is kept at work when they are made to come.
WARM_MS = 60


@dataclass(slots=True)
class Subject:
    """The container under test. Whatever an injector does to it ends with the injector's context."""

    stage: Stage
    service: Service
    way: Way
    parent: Parent | None
    """The cgroup above it, if it is our own."""
    entity: Entity
    url: str
    visitors: list[str] = field(default_factory=list)
    neighbour_id: str | None = None
    period_ms: int = 100
    """Of the CPU limit that a fault sets; a case says which."""
    idle: list[socket.socket] = field(default_factory=list)
    """Connections on which nothing is asked; each holds a thread of Flask's own server."""

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def pid(self) -> int:
        """Its main process, by its number on the machine."""
        container = self.stage.place.container(self.name)
        container.reload()
        return int(container.attrs["State"]["Pid"])

    @property
    def cpuset(self) -> str:
        """The cores it runs on, also while a fault has put it on fewer."""
        return (self.stage.cores.subject or "0") if self.way.cores == "one" else self.stage.all_cores

    @property
    def cores(self) -> set[int]:
        """The same as numbers."""
        return numbers_of(self.cpuset)

    def wait_for_threads(self) -> None:
        """Wait until it answers and every thread of its server is there."""
        wait_ready(self.stage.place, self.name, "/ready")
        self.url = self.stage.place.url(self.name)
        host, port = self.address()
        if self.way.server == "flask":
            self.hang_up()
            self.idle = [socket.create_connection((host, port), 10) for _ in range(self.way.threads - 1)]
        elif self.way.threads > 1:  # gunicorn starts a thread when all it has are at work
            with ThreadPoolExecutor(self.way.threads) as clients:
                list(clients.map(lambda _: one(host, port, f"/warm?ms={WARM_MS}"), range(self.way.threads)))

    def hang_up(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().close()

    def address(self) -> tuple[str, int]:
        """Where it answers: host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def holder(self) -> int:
        """The number, inside its container, of the thread that others wait for."""
        return int(_ask("GET", f"{self.url}/holder"))

    def entity_id(self, word: str | None) -> str | None:
        """The id that a verdict must name. KeyError for an unknown word."""
        supplier = self.stage.place.peer(SUPPLIER, PORT)
        known: Mapping[str | None, str | None] = {None: None, "subject": self.entity.id, SUPPLIER: supplier}
        if word == CALLEE:
            return self.stage.callee.id if self.stage.callee else None
        if word == PARTNER:
            return self.stage.place.peer(PARTNER, PORT)
        if word == "database":
            return self.stage.place.peer(DATABASE, 5432)
        return known[word]

    def resolve(self, path: str) -> str:
        """A path with the addresses of others in it."""
        for word in (SUPPLIER, CALLEE, PARTNER):
            if f"{{{word}}}" in path:
                path = path.replace(f"{{{word}}}", self.stage.place.peer(word, PORT))
        return path

    def intruders(self) -> Intruders:
        """Who else used its cores; on all of them, the lab itself is no intruder."""
        if self.way.cores == "one":
            return Intruders(self.stage.place, self.cpuset, lambda: (self.name, *self.visitors))
        ours = (self.name, *self.stage.company())
        return Intruders(
            self.stage.place, self.cpuset, lambda: (*ours, *self.visitors), self.stage.watching.processes_ns
        )

    def put(self, path: str) -> None:
        """Turn a handle of the app."""
        put(self.url + path)

    def restart(self) -> None:
        """Start it anew under its name: a new process."""
        self.hang_up()
        self.entity = self.stage.place.start(self.service)
        self.wait_for_threads()


def put(url: str) -> None:
    """Turn a handle of an app. DemoError when it does not answer."""
    _ask("PUT", url)


def _ask(method: str, url: str) -> str:
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, url, timeout=30)
            answer.raise_for_status()
            return answer.text
    except requests.RequestException as problem:
        raise DemoError(f"{method} {url} failed: {problem}") from problem
