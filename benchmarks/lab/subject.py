"""One container under test, and everything that can be done to it; whatever is done ends with its context."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from benchmarks.lab.injectors import neighbours, network
from benchmarks.lab.injectors.parent_cgroup import Parent
from benchmarks.lab.way import Way
from layerline_api.demo.containers import Containers
from layerline_api.demo.intruders import Intruders
from layerline_api.demo.layout import numbers_of
from layerline_api.demo.load import one
from layerline_api.demo.place import DemoError, Entity, Limits, Service, wait_ready

if TYPE_CHECKING:
    from benchmarks.lab.stage import Stage

PORT = 8000
#: Who is there beside it: called and not instrumented, called and dying, called and instrumented, PostgreSQL.
SUPPLIER, CALLEE, PARTNER, DATABASE = "supplier", "callee", "partner", "postgres"
#: For so long each thread of a server is kept at work when they are made to come.
WARM_MS = 60
#: Heavier than the subject, so that it leaves it a ninth of the core.
NEIGHBOUR_SHARES = 8 * 1024


@dataclass(slots=True)
class Subject:
    """The container under test. Whatever a context does to it ends with the context."""

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
        host, port = self._address()
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

    def _address(self) -> tuple[str, int]:
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
        _put(self.url + path)

    @contextmanager
    def handle(self, path: str) -> Iterator[None]:
        """Turn a handle just before the request; what it starts ends by itself."""
        self.put(path)
        yield

    @contextmanager
    def started_anew(self) -> Iterator[None]:
        """A new process for the request."""
        self.restart()
        yield

    def restart(self) -> None:
        """Start it anew under its name: a new process."""
        self.hang_up()
        self.entity = self.stage.place.start(self.service)
        self.wait_for_threads()

    @contextmanager
    def quota(self, percent: int) -> Iterator[None]:
        """A CPU limit, in per cent of a core: the container's own (``docker update``) or its parent cgroup's."""
        ratio, period_us = percent / 100, self.period_ms * 1_000
        if self.parent is not None:
            with self.parent.limited(ratio, period_us):
                yield
            return
        self.stage.place.update(self.name, Limits(quota_ratio=ratio, period_us=period_us))
        try:
            yield
        finally:
            self.stage.place.update(self.name, Limits())

    @contextmanager
    def memory(self, limit_bytes: int, lifted_bytes: int = 4 << 30) -> Iterator[None]:
        """A memory limit."""
        self.stage.place.update(self.name, Limits(memory_bytes=limit_bytes))
        try:
            yield
        finally:
            self.stage.place.update(self.name, Limits(memory_bytes=lifted_bytes))

    @contextmanager
    def neighbour(self, shares: int = NEIGHBOUR_SHARES) -> Iterator[None]:
        """A container that keeps the subject's cores busy, two processes for each; it has the same cpuset, or none."""
        command = ("-m", "layerline_api.demo.shop.burner", "--processes", str(2 * len(self.cores)))
        limits = Limits(cpuset=self.service.limits.cpuset, cpu_shares=shares)
        self.neighbour_id = self.stage.place.start(Service("neighbour", command, limits=limits)).id
        try:
            wait_busy(self.stage.place, "neighbour")
            self.visitors.append("neighbour")
            yield
        finally:
            self.visitors = [name for name in self.visitors if name != "neighbour"]
            self.stage.place.stop("neighbour")

    @contextmanager
    def siblings(self, burn: int = 0, write: int = 0) -> Iterator[None]:
        """Threads of the app that compute or write."""
        self.put(f"/siblings?burn={burn}&write={write}")
        try:
            yield
        finally:
            self.put("/siblings")

    def crowd(self, for_each_core: int) -> AbstractContextManager[None]:
        """So many threads of the app that compute, for each core that it may run on."""
        return self.siblings(burn=for_each_core * len(self.cores))

    @contextmanager
    def delay(self, milliseconds: int) -> Iterator[None]:
        """Let the supplier answer so much later."""
        url = self.stage.place.url(SUPPLIER)
        _put(f"{url}/delay?ms={milliseconds}")
        try:
            yield
        finally:
            _put(f"{url}/delay?ms=0")

    @contextmanager
    def frozen(self, after_ms: int, milliseconds: int) -> Iterator[None]:
        """``docker pause`` in the middle of what is sent meanwhile."""
        container = self.stage.place.container(self.name)

        def freeze() -> None:
            time.sleep(after_ms / 1_000)
            container.pause()
            time.sleep(milliseconds / 1_000)
            container.unpause()

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    @contextmanager
    def callee_restarted(self) -> Iterator[None]:
        """``docker restart`` of the callee, which is down when the request begins."""
        container = self.stage.place.container(CALLEE)
        thread = threading.Thread(target=container.restart, kwargs={"timeout": 0})
        thread.start()
        time.sleep(0.08)  # until it is down
        try:
            yield
        finally:
            thread.join()
            wait_again(self.stage.place, CALLEE)

    @contextmanager
    def callee_killed(self) -> Iterator[None]:
        """The callee outgrows its memory; the engine starts it again after the kernel has killed it."""
        with suppress(DemoError):  # it may be dead before it has answered
            _put(f"{self.stage.place.url(CALLEE)}/grow")
        time.sleep(0.08)  # until it has grown
        try:
            yield
        finally:
            wait_again(self.stage.place, CALLEE)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """On one core instead of all."""
        self.stage.place.update(self.name, Limits(cpuset=self.stage.cores.subject))
        try:
            yield
        finally:
            self.stage.place.update(self.name, Limits(cpuset=self.stage.all_cores))

    @contextmanager
    def disk_hog(self, seconds: int, depth: int) -> Iterator[None]:
        """Another container that keeps the disk busy."""
        with neighbours.disk_hog(self.stage.place, seconds, depth=depth) as hog:
            self.neighbour_id = hog.id
            self.visitors.append(neighbours.DISK_HOG)
            time.sleep(1)  # until it has made its file
            try:
                yield
            finally:
                self.visitors.remove(neighbours.DISK_HOG)

    @contextmanager
    def lost(self, count: int) -> Iterator[None]:
        """The next ``count`` segments to the partner are dropped where they arrive."""
        with network.drop_next(self.stage.place.container(PARTNER), PORT, count, "in", server=True):
            yield

    @contextmanager
    def slow_link(self, bits_per_second: int) -> Iterator[None]:
        """What the partner sends leaves slowly."""
        with network.slow_link(self.stage.place.container(PARTNER), bits_per_second):
            yield

    @contextmanager
    def row_locked(self, milliseconds: int) -> Iterator[None]:
        """Somebody else holds the row that the request changes."""
        assert self.stage.database is not None
        with self.stage.database.row_lock(milliseconds / 1_000):
            yield

    @contextmanager
    def occupied(self, milliseconds: int) -> Iterator[None]:
        """Other clients' requests hold every thread of the server meanwhile."""
        with self.visited(self.way.threads, f"/occupy?ms={milliseconds}"):
            yield

    @contextmanager
    def visited(self, clients: int, path: str) -> Iterator[None]:
        """So many other clients ask for this meanwhile, each once."""
        threads = [threading.Thread(target=one, args=(*self._address(), path)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(0.03)  # until they have been taken
        try:
            yield
        finally:
            for thread in threads:
                thread.join()


def wait_again(place: Containers, name: str, timeout_s: float = 20) -> None:
    """Wait until a service that died answers again: the engine starts it. DemoError if it stays down."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            wait_ready(place, name)
            return
        except DemoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wait_busy(place: Containers, name: str, timeout_s: float = 10) -> None:
    """Wait until a burner burns: it has used CPU time between two looks. DemoError if it does not."""
    deadline, before = time.monotonic() + timeout_s, place.used_ns(name) or 0
    while time.monotonic() < deadline:
        time.sleep(0.15)
        now = place.used_ns(name) or 0
        if now - before > 50_000_000:
            return
        before = now
    raise DemoError(f"{name} was expected to keep a core busy within {timeout_s:.0f} s:\n{place.output(name)}")


def _put(url: str) -> None:
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
