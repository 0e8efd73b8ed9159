"""The stage: a server and an agent that watch, a supplier, and one subject at a time that faults are done to.

The subject runs as users run it: without a cpuset, unless its way says otherwise. What measures (server, agent, load
generator) and whom it calls stay on the first cores, so that the last one is free of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.apps import node_app
from benchmarks.lab.fault import Container, Variant
from benchmarks.lab.injectors.parent_cgroup import Parent, parent_cgroup
from benchmarks.lab.injectors.postgres import Postgres, postgres
from benchmarks.lab.subject import CALLEE, DATABASE, PARTNER, PORT, SUPPLIER, Subject
from benchmarks.lab.way import Way
from layerline_api.demo.containers import Containers
from layerline_api.demo.layout import Cores
from layerline_api.demo.place import Entity, Limits, Service, instrumented, wait_ready
from layerline_api.demo.watching import Watching

APPS = Path(__file__).with_name("apps")
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

    def company(self) -> tuple[str, ...]:
        """The containers that are there beside the subject."""
        there = {CALLEE: self.callee is not None, DATABASE: self.database is not None, PARTNER: self.has_partner}
        return ("server", SUPPLIER, *(name for name, here in there.items() if here))

    def keep_store(self, folder: Path) -> None:
        """Stop the server and copy its store into this folder, which is made: the run can then be judged again."""
        folder.mkdir(exist_ok=True)
        self.place.container("server").stop(timeout=20)
        self.place.copy("server", f"{self.place.folder('store')}/layerline", folder)

    @property
    def all_cores(self) -> str:
        """Every core that the lab may use."""
        return self.cores.all or "0"

    @contextmanager
    def subject(self, container: Container) -> Iterator[Subject]:
        """A container as described, ready, as long as the context lasts."""
        variant, way = container.variant, container.way
        if variant.database and self.database is None:
            self.database = self.stack.enter_context(postgres(self.place, Limits(cpuset=self.cores.rest)))
        if variant.partner and not self.has_partner:
            self.place.start(self._service(PARTNER, Variant(), Way(), self.cores.rest))
            wait_ready(self.place, PARTNER, "/ready")
            self.has_partner = True
        self.subjects += 1
        name = f"lab-{way.server}-{self.subjects}"
        with parent_cgroup() if way.below_parent else nullcontext(None) as parent:
            cpuset = self.cores.subject if way.cores == "one" else None
            service = self._service(name, variant, way, cpuset, parent)
            entity = self.place.start(service)
            subject = Subject(self, service, way, parent, entity, self.place.url(name))
            try:
                subject.wait_for_threads()
                yield subject
            finally:
                subject.hang_up()
                self.place.stop(name)

    def _service(
        self, name: str, variant: Variant, way: Way, cpuset: str | None = None, parent: Parent | None = None
    ) -> Service:
        command, environment = self._program(name, way)
        if self.database is not None:
            environment["DATABASE_URL"] = self.database.peer_url
        limits = Limits(
            cpuset=cpuset,
            write_bytes_per_second=kib(variant.write_kib_per_second),
            read_bytes_per_second=kib(variant.read_kib_per_second),
        )
        return Service(
            name,
            command,
            environment,
            port=PORT,
            folder="journal",
            limits=limits,
            binds=(APPS,),
            cgroup_parent=None if parent is None else f"/{parent.name}",
        )

    def _program(self, name: str, way: Way) -> tuple[tuple[str, ...], dict[str, str]]:
        """The command and the environment of an app."""
        listen, folder = self.place.listen(name, PORT), self.place.folder("journal")
        environment = self.watching.environment(name)
        if way.app == "node":
            # Not one of ours: the OpenTelemetry SDK as its documentation has it, and nothing else.
            node_app.node_modules()
            return node_app.node_command(listen, folder), {
                "OTEL_SERVICE_NAME": name,
                "OTEL_EXPORTER_OTLP_ENDPOINT": environment["LAYERLINE_ENDPOINT"],
                "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{environment['LAYERLINE_TOKEN']}",
            }
        wrapper = ("-m", "layerline.command", "run", "--", sys.executable)
        if way.app == "asyncio":
            loop = ("--loop", "uvloop" if way.server == "uvloop" else "asyncio")
            return (*wrapper, str(APPS / "asyncio_app.py"), "--listen", listen, "--folder", folder, *loop), environment
        environment |= {"LAB_FOLDER": folder, "LAB_FIRST_MS": str(FIRST_MS)}
        if way.server == "flask":
            return (*wrapper, str(APPS / "flask_app.py"), "--listen", listen), environment
        kind = ("--worker-class", way.server, "--workers", "1", "--threads", str(way.threads))
        return instrumented("gunicorn", "--bind", listen, "--chdir", str(APPS), *kind, "flask_app:app"), environment


def kib(value: int | None) -> int | None:
    """KiB as bytes."""
    return None if value is None else value * 1024
