"""The coarse lab's shop: five services in containers, a recorder instead of a server, our agent, and customers.

``web`` asks ``cart``, ``stock`` and ``prices``; ``cart`` asks ``stock`` and ``prices``; ``kiosk`` asks ``stock``.
``prices`` is not instrumented. ``stock`` is kept on one core, everything that measures on the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docker.errors import DockerException
from rich.console import Console

from benchmarks.lab.subject import put
from layerline_api.demo import engine, layout
from layerline_api.demo.containers import Containers
from layerline_api.demo.load import one
from layerline_api.demo.place import DemoError, Entity, Limits, Service, wait_ready
from layerline_api.demo.processes import Processes
from layerline_api.demo.show import report_problems
from layerline_api.demo.watching import Watching

APPS = Path(__file__).parents[1] / "apps"
PORT = 8000
RECORDER = "server"
"""The agent is started for whoever has this name."""
#: Seconds between a customer's requests: of which front, and for what.
CUSTOMERS = {("web", "/cart"): 0.2, ("web", "/page"): 0.4, ("web", "/report"): 10.0, ("kiosk", "/kiosk"): 0.3}


@dataclass(slots=True)
class Shop:
    """The shop, and what is done to it."""

    place: Containers
    watching: Watching
    cores: layout.Cores
    entities: dict[str, Entity] = field(default_factory=dict)

    def open(self) -> None:
        """Start recorder, agent and services, and wait until each answers."""
        command = (str(APPS / "recorder.py"), "--listen", self.place.listen(RECORDER, 4318), "--folder")
        limits = Limits(cpuset=self.cores.rest)
        folder = f"{self.place.folder('store')}/recording"
        self.place.start(Service(RECORDER, (*command, folder), port=4318, folder="store", limits=limits, binds=(APPS,)))
        wait_ready(self.place, RECORDER)
        self.watching.open_agent()
        for name in ("prices", "stock", "cart", "web", "kiosk"):
            self._start(name)

    def _start(self, name: str) -> None:
        peers = [part for peer in ("prices", "stock", "cart") for part in (f"--{peer}", self.place.peer(peer, PORT))]
        command = (str(APPS / "coarse_app.py"), "--service", name, "--listen", self.place.listen(name, PORT), *peers)
        environment = {
            "OTEL_SERVICE_NAME": name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.place.peer(RECORDER, 4318)}",
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "host,process",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        plain = ("--plain",) if name == "prices" else ()
        limits = Limits(cpuset=self.cores.subject if name == "stock" else self.cores.rest)
        self.entities[name] = self.place.start(
            Service(name, (*command, *plain), environment, port=PORT, limits=limits, binds=(APPS,))
        )
        wait_ready(self.place, name)

    def put(self, service: str, path: str) -> None:
        """Turn a handle of a service."""
        put(self.place.url(service) + path)

    def limit(self, service: str, quota_ratio: float | None) -> None:
        """As ``docker update`` does; None lifts the limit."""
        self.place.update(service, Limits(cpuset=self.cores.subject, quota_ratio=quota_ratio))

    def container(self, service: str) -> Any:
        """The service's container."""
        return self.place.container(service)

    def neighbour_comes(self) -> None:
        """A busy container on stock's core, eight times as heavy."""
        limits = Limits(cpuset=self.cores.subject, cpu_shares=8 * 1024)
        command = ("-m", "layerline_api.demo.shop.burner", "--processes", "2")
        self.entities["neighbour"] = self.place.start(Service("neighbour", command, limits=limits))

    def neighbour_goes(self) -> None:
        """It ends."""
        self.place.stop("neighbour")

    def keep(self, folder: Path) -> None:
        """Stop the services, so that they send their last spans, then copy the recording to this folder."""
        for name in ("web", "kiosk", "cart", "stock"):
            self.place.stop(name)
        self.place.copy(RECORDER, f"{self.place.folder('store')}/recording", folder)


@contextmanager
def open_shop(console: Console) -> Iterator[Shop]:
    """A shop that is open, and nothing of it afterwards. DemoError, NoEngine."""
    with ExitStack() as stack:
        cores = layout.here()
        if cores.subject is None:
            raise DemoError("one core found, expected at least two: what measures would disturb what is measured")
        client = engine.connect()
        stack.callback(client.close)
        place = Containers(client)
        stack.callback(report_problems, console, place)
        stack.enter_context(place)
        engine.probe(place)
        shop = Shop(place, Watching(place, stack.enter_context(Processes()), cores), cores)
        shop.open()
        yield shop


class Customers:
    """Ask again and again, whatever is answered, each after a pause of its own."""

    def __init__(self, shop: Shop, pauses_s: Mapping[tuple[str, str], float] = CUSTOMERS) -> None:
        self._shop, self._stop = shop, threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(*who, pause_s), daemon=True) for who, pause_s in pauses_s.items()
        ]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, service: str, path: str, pause_s: float) -> None:
        where = urlsplit(self._shop.place.url(service))
        while not self._stop.wait(pause_s):
            with suppress(DemoError, DockerException):  # it failed, as some faults want it
                one(where.hostname or "127.0.0.1", where.port or 80, path)
