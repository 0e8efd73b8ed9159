"""The stage: a server and an agent that watch, a supplier, and one subject at a time that faults are done to."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from benchmarks.lab.apps import node_app
from benchmarks.lab.fault import Variant
from benchmarks.lab.injectors.postgres import Postgres, postgres
from layerline_api.demo.containers import Containers
from layerline_api.demo.intruders import Intruders
from layerline_api.demo.layout import Cores
from layerline_api.demo.place import DemoError, Entity, Limits, Service, instrumented, wait_ready
from layerline_api.demo.watching import Watching

APPS = Path(__file__).with_name("apps")
PORT = 8000
SUPPLIER, CALLEE, PARTNER, DATABASE = "supplier", "callee", "partner", "postgres"
CALLEE_BYTES = 96 << 20
FIRST_MS = 300


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
        put(self.url + path)

    def restart(self) -> None:
        """Start it anew under its name: a new process."""
        self.entity = self.stage.place.start(self.service)
        wait_ready(self.stage.place, self.name, "/ready")
        self.url = self.stage.place.url(self.name)


def put(url: str) -> None:
    """Turn a handle of an app. DemoError when it does not answer."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.put(url, timeout=30).raise_for_status()
    except requests.RequestException as problem:
        raise DemoError(f"PUT {url} failed: {problem}") from problem
