"""The stage: a server and an agent that watch, a supplier, and one subject at a time that faults are done to."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from benchmarks.lab.apps import node_app
from benchmarks.lab.fault import Variant
from benchmarks.lab.injectors import neighbours, network
from benchmarks.lab.injectors.postgres import Postgres, postgres
from layerline_api.demo.containers import Containers
from layerline_api.demo.intruders import Intruders
from layerline_api.demo.layout import Cores
from layerline_api.demo.load import one
from layerline_api.demo.place import DemoError, Entity, Limits, Service, instrumented, wait_ready
from layerline_api.demo.watching import Watching

APPS = Path(__file__).with_name("apps")
PORT = 8000
SUPPLIER, CALLEE, PARTNER, DATABASE = "supplier", "callee", "partner", "postgres"
CALLEE_BYTES = 96 << 20
FIRST_MS = 300
#: Heavier than the subject, so that it leaves it a ninth of the core.
NEIGHBOUR_SHARES = 8 * 1024


@dataclass(slots=True)
class Stage:
    """Who is there. ``subjects`` counts them: each has a name, hence a service, of its own."""

    place: Containers
    watching: Watching
    cores: Cores
    stack: ExitStack
    """Closed with the lab."""
    subjects: int = 0
    callee: Entity | None = None
    database: Postgres | None = None
    has_partner: bool = False

    def open_supplier(self) -> None:
        """Start the service that is called and not instrumented: it answers after a delay that can be set."""
        command = ("-m", "layerline_api.demo.shop.prices", "--listen", self.place.listen(SUPPLIER, PORT))
        self.place.start(Service(SUPPLIER, command, port=PORT, limits=Limits(cpuset=self.cores.rest)))
        wait_ready(self.place, SUPPLIER)

    def open_callee(self) -> None:
        """Start the service that dies and is started again by the engine, always in the same container."""
        command = (str(APPS / "callee.py"), "--listen", self.place.listen(CALLEE, PORT))
        limits = Limits(cpuset=self.cores.rest, memory_bytes=CALLEE_BYTES)
        service = Service(CALLEE, command, port=PORT, limits=limits, binds=(APPS,), restarts=True)
        self.callee = self.place.start(service)
        wait_ready(self.place, CALLEE)

    def keep_store(self, folder: Path) -> None:
        """Stop the server and copy its store into this folder: the run can then be judged again."""
        self.place.container("server").stop(timeout=20)
        self.place.copy("server", f"{self.place.folder('store')}/layerline", folder)

    @contextmanager
    def subject(self, variant: Variant) -> Iterator[Subject]:
        """A container of this variant, ready, as long as the context lasts."""
        if variant.database and self.database is None:
            self.database = self.stack.enter_context(postgres(self.place, Limits(cpuset=self.cores.rest)))
        if variant.partner and not self.has_partner:
            self.place.start(self._service(PARTNER, Variant(), self.cores.rest))
            wait_ready(self.place, PARTNER, "/ready")
            self.has_partner = True
        self.subjects += 1
        name = f"lab-{variant.app}-{self.subjects}"
        service = self._service(name, variant)
        entity = self.place.start(service)
        try:
            wait_ready(self.place, name, "/ready")
            yield Subject(self, service, entity, self.place.url(name))
        finally:
            self.place.stop(name)

    def _service(self, name: str, variant: Variant, cpuset: str | None = None) -> Service:
        command, environment = self._program(name, variant)
        if self.database is not None:
            environment["DATABASE_URL"] = self.database.peer_url
        limits = Limits(
            cpuset=f"{self.cores.subject},{self.cores.rest}" if variant.wide else cpuset or self.cores.subject,
            quota_ratio=None if variant.quota_percent is None else variant.quota_percent / 100,
            write_bytes_per_second=kib(variant.write_kib_per_second),
            read_bytes_per_second=kib(variant.read_kib_per_second),
        )
        return Service(name, command, environment, port=PORT, folder="journal", limits=limits, binds=(APPS,))

    def _program(self, name: str, variant: Variant) -> tuple[tuple[str, ...], dict[str, str]]:
        """The command and the environment of an app. DemoError for one that the lab does not have."""
        listen, folder = self.place.listen(name, PORT), self.place.folder("journal")
        environment = self.watching.environment(name)
        flags = ("--listen", listen, "--folder", folder)
        if variant.app == "flask":
            kind = ("--worker-class", "gthread") if variant.threads > 1 else ()
            counts = ("--workers", str(variant.workers), "--threads", str(variant.threads))
            command = instrumented("gunicorn", "--bind", listen, "--chdir", str(APPS), *kind, *counts, "flask_app:app")
            return command, {**environment, "LAB_FOLDER": folder, "LAB_FIRST_MS": str(FIRST_MS)}
        if variant.app == "asyncio":
            wrapper = ("-m", "layerline.command", "run", "--", sys.executable)
            return (*wrapper, str(APPS / "asyncio_app.py"), *flags), environment
        if variant.app == "node":
            # Not one of ours: the OpenTelemetry SDK as its documentation has it, and nothing else.
            node_app.node_modules()
            return node_app.node_command(listen, folder), {
                "OTEL_SERVICE_NAME": name,
                "OTEL_EXPORTER_OTLP_ENDPOINT": environment["LAYERLINE_ENDPOINT"],
                "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{environment['LAYERLINE_TOKEN']}",
            }
        raise DemoError(f"no app named {variant.app!r} in the lab, expected 'flask', 'asyncio' or 'node'")


def kib(value: int | None) -> int | None:
    """KiB as bytes."""
    return None if value is None else value * 1024


@dataclass(slots=True)
class Subject:
    """The container under test. Whatever a context does to it ends with the context."""

    stage: Stage
    service: Service
    entity: Entity
    url: str
    visitors: list[str] = field(default_factory=list)
    neighbour_id: str | None = None

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
    def cores(self) -> set[int]:
        """The cores it runs on while a fault is traced."""
        return {int(self.stage.cores.subject or 0)}

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
        """Who else used the core."""
        return Intruders(self.stage.place, self.stage.cores.subject, lambda: (self.name, *self.visitors))

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
        self.entity = self.stage.place.start(self.service)
        wait_ready(self.stage.place, self.name, "/ready")
        self.url = self.stage.place.url(self.name)

    @contextmanager
    def quota(self, percent: int) -> Iterator[None]:
        """A CPU limit, in per cent of a core."""
        self.stage.place.update(self.name, Limits(quota_ratio=percent / 100))
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
        """A container that keeps the subject's core busy."""
        command = ("-m", "layerline_api.demo.shop.burner", "--processes", "2")
        limits = Limits(cpuset=self.stage.cores.subject, cpu_shares=shares)
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
        cores = self.stage.cores
        self.stage.place.update(self.name, Limits(cpuset=cores.subject))
        try:
            yield
        finally:
            self.stage.place.update(self.name, Limits(cpuset=f"{cores.subject},{cores.rest}"))

    @contextmanager
    def disk_hog(self, seconds: int, depth: int) -> Iterator[None]:
        """Another container that keeps the disk busy."""
        limits = Limits(cpuset=self.stage.cores.rest)
        with neighbours.disk_hog(self.stage.place, seconds, depth=depth, limits=limits) as hog:
            self.neighbour_id = hog.id
            time.sleep(1)  # until it has made its file
            yield

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
        """Another client's request holds a worker meanwhile."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        thread = threading.Thread(target=one, args=(host, int(port), f"/occupy?ms={milliseconds}"))
        thread.start()
        time.sleep(0.03)  # until the worker has taken it
        try:
            yield
        finally:
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
        if now - before > 100_000_000:
            return
        before = now
    raise DemoError(f"{name} was expected to keep a core busy within {timeout_s:.0f} s:\n{place.output(name)}")


def _put(url: str) -> None:
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.put(url, timeout=30).raise_for_status()
    except requests.RequestException as problem:
        raise DemoError(f"PUT {url} failed: {problem}") from problem
