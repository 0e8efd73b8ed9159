"""A shop of five services in real containers, watched by Layerline, and customers with a stopwatch of their own.

``web`` asks ``stock`` asks ``prices``; beside them ``kiosk`` asks ``depot`` asks ``prices``, and nothing ever happens
to these two. ``stock`` and its neighbour are kept on one core, Layerline and the customers on the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from docker.errors import DockerException
from requests.exceptions import RequestException
from rich.console import Console

from layerline_api.asking import Server
from layerline_api.demo.containers import Containers
from layerline_api.demo.layout import Cores
from layerline_api.demo.load import Response, one
from layerline_api.demo.place import DemoError, Entity, Limits, Service, instrumented, wait_ready
from layerline_api.demo.show import watched_containers
from layerline_api.demo.watching import Watching

PROGRAMS = "layerline_api.demo.shop"
PORT = 8000


@dataclass(frozen=True, slots=True)
class Watched:
    """A shop that is open, the server and agent that watch it, and which core does what."""

    place: Containers
    shop: Shop
    watching: Watching
    cores: Cores

    def keep_store(self, folder: Path) -> None:
        """Stop the server and copy its store into this folder, as ``layerline``."""
        self.place.container("server").stop(timeout=20)
        self.place.copy("server", f"{self.place.folder('store')}/layerline", folder)

    def ask(self, path: str) -> requests.Response:
        """What the server answers below ``/api/v1``. CannotAsk, NoAnswer."""
        return Server(self.watching.url, self.watching.token).get(f"/api/v1/{path}")

    def incidents(self, since_s: float) -> list[dict[str, Any]]:
        """The incidents since then (seconds since 1970), the oldest first, whole."""
        items = self.ask(f"incidents?since={max(1, round(time.time() - since_s))}s").json()["items"]
        return [self.ask(f"incidents/{item['id']}").json() for item in reversed(items)]


def open_shop(console: Console, stack: ExitStack) -> Watched:
    """Start server, agent and the five services; ``stack`` ends them. DemoError where the machine cannot."""
    place, watching, cores = watched_containers(console, stack)
    shop = Shop(place, cores, watching)
    shop.open()
    return Watched(place, shop, watching, cores)


class Shop:
    """Five services, and what is done to them."""

    def __init__(self, place: Containers, cores: Cores, watching: Watching) -> None:
        self.entities: dict[str, Entity] = {}
        self._place, self._cores, self._watching = place, cores, watching

    def open(self) -> None:
        """Start the five and wait until each answers."""
        self._start("prices", ("-m", f"{PROGRAMS}.prices"), cpuset=self._cores.rest)
        self._stock("stock", self._cores.subject)
        self._stock("depot", self._cores.rest)
        self.deploy_web("web", "stock", "1.4")
        self.deploy_web("kiosk", "depot", "1.4")

    def _stock(self, name: str, cpuset: str | None) -> None:
        arguments = ("--prices", self._place.peer("prices", PORT), "--journal", self._place.folder(f"journal-{name}"))
        self._start(name, instrumented(f"{PROGRAMS}.stock"), *arguments, cpuset=cpuset, folder=f"journal-{name}")

    def deploy_web(self, name: str, stock: str, version: str) -> None:
        """Start a front anew in this version."""
        environment = {"OTEL_RESOURCE_ATTRIBUTES": f"service.version={version}"}
        self._start(
            name, instrumented(f"{PROGRAMS}.web"), "--stock", self._place.peer(stock, PORT), environment=environment
        )

    def _start(
        self,
        name: str,
        command: tuple[str, ...],
        *arguments: str,
        cpuset: str | None = None,
        folder: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        known = {} if name == "prices" else self._watching.environment(name)
        self.entities[name] = self._place.start(
            Service(
                name,
                (*command, "--listen", self._place.listen(name, PORT), *arguments),
                {**known, **(environment or {})},
                port=PORT,
                folder=folder,
                limits=Limits(cpuset=cpuset),
            )
        )
        wait_ready(self._place, name)

    def limit_stock(self, quota_ratio: float | None) -> None:
        """As ``docker update`` does; None lifts the limit."""
        self._place.update("stock", Limits(cpuset=self._cores.subject, quota_ratio=quota_ratio))

    def neighbour_comes(self, cpu_shares: int) -> None:
        """A busy container on stock's core, with this weight beside stock's 1024."""
        limits = Limits(cpuset=self._cores.subject, cpu_shares=cpu_shares)
        command = ("-m", f"{PROGRAMS}.burner", "--processes", "2")
        self.entities["neighbour"] = self._place.start(Service("neighbour", command, limits=limits))

    def neighbour_goes(self) -> None:
        self._place.stop("neighbour")

    def slow_web(self, cpu_ms: int) -> None:
        """Deploy web 1.5, whose code is slow from its first request on."""
        self.deploy_web("web", "stock", "1.5")
        self.flag_web(cpu_ms, 100)

    def flag_web(self, cpu_ms: int, percent: int) -> None:
        """So many per cent of web's carts compute so much more."""
        query = f"recommend_cpu_ms={cpu_ms}&recommend_percent={percent}"
        requests.put(f"{self.url('web')}/flags?{query}", timeout=10).raise_for_status()

    def late_prices(self, ms: int) -> None:
        """Let prices answer so many milliseconds after it was asked."""
        requests.put(f"{self.url('prices')}/delay?ms={ms}", timeout=10).raise_for_status()

    def url(self, name: str) -> str:
        return self._place.url(name)


class Customers:
    """Customers of the fronts, who ask again and again, whatever is answered, each after a pause of its own.

    ``answers`` has what each saw of each front, in order.
    """

    def __init__(self, shop: Shop, pauses_s: Mapping[str, float]) -> None:
        self._shop, self._stop = shop, threading.Event()
        self.answers: dict[str, list[Response]] = {name: [] for name in pauses_s}
        self._threads = [
            threading.Thread(target=self._ask, args=(name, pause_s), daemon=True) for name, pause_s in pauses_s.items()
        ]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """How many requests were answered."""
        return sum(map(len, self.answers.values()))

    def _ask(self, name: str, pause_s: float) -> None:
        while not self._stop.wait(pause_s):
            try:
                where = urlsplit(self._shop.url(name))
                self.answers[name].append(one(where.hostname or "127.0.0.1", where.port or 80, "/cart"))
            except (DemoError, DockerException, RequestException, KeyError):
                continue  # it is being deployed


def seconds(text: str) -> float:
    """A time of the API in seconds since 1970."""
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def clock(at_s: float) -> str:
    """``12:34:56``, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(at_s))
