"""The shop, running: its three services, and every handle for making trouble."""

from __future__ import annotations

from dataclasses import replace

import requests

from layerline_api.demo.containers import Containers
from layerline_api.demo.intruders import Intruders
from layerline_api.demo.layout import Cores
from layerline_api.demo.place import (
    DemoError,
    Entity,
    Limits,
    Place,
    Service,
    instrumented,
    wait_ready,
)
from layerline_api.demo.watching import Watching

SHOP = "layerline_api.demo.shop"
PORT = 8000
#: A neighbour this much heavier leaves the subject a ninth of the core, by weight or by number of processes.
NEIGHBOUR_WEIGHT = 8


class Shop:
    """No service is kept on a core, but ``stock`` while its neighbour must share one with it. ``watching`` is where its
    spans are sent.
    """

    def __init__(self, place: Place, cores: Cores, watching: Watching) -> None:
        self.entities: dict[str, Entity] = {}
        self._visiting: set[str] = set()
        self._place, self._cores, self._watching = place, cores, watching
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def in_containers(self) -> bool:
        """Whether the services have containers of their own."""
        return isinstance(self._place, Containers)

    @property
    def cart(self) -> str:
        """The URL that a customer asks for."""
        return f"{self._place.url('web')}/cart"

    @property
    def prices_address(self) -> str:
        """``prices`` as a caller knows it: ``host:port``."""
        return self._place.peer("prices", PORT)

    # ---- opening

    def open_services(self) -> None:
        """Start the three services, and wait until each answers."""
        prices = ("-m", f"{SHOP}.prices", "--listen", self._place.listen("prices", PORT))
        self._start(Service("prices", prices, port=PORT))
        self._start(self._stock())
        arguments = ("--listen", self._place.listen("web", PORT), "--stock", self._place.peer("stock", PORT))
        web = instrumented(f"{SHOP}.web", *arguments)
        self._start(Service("web", web, self._watching.environment("web"), port=PORT))
        for name in ("prices", "stock", "web"):
            wait_ready(self._place, name)

    def _stock(self) -> Service:
        listen = self._place.listen("stock", PORT)
        journal = self._place.folder("journal")
        arguments = ("--listen", listen, "--prices", self.prices_address, "--journal", journal)
        return Service(
            "stock",
            instrumented(f"{SHOP}.stock", *arguments),
            self._watching.environment("stock"),
            port=PORT,
            folder="journal",
        )

    def _start(self, service: Service) -> None:
        self.entities[service.name] = self._place.start(service)

    def intruders(self) -> Intruders:
        """Who else runs on this machine, beside the shop, its neighbours and Layerline."""

        def ours() -> list[str]:
            return ["stock", "web", "prices", "server", *self._visiting]

        return Intruders(self._place, self._cores.all, ours, self._watching.processes_ns)

    # ---- trouble, and its end

    def limit_cpu(self, quota_ratio: float | None) -> None:
        """Limit ``stock``'s CPU while it runs (as ``docker update`` does), or lift the limit."""
        if not isinstance(self._place, Containers):
            raise TypeError("a plain process has no CPU limit")
        self._place.update("stock", Limits(quota_ratio=quota_ratio))

    def limit_writes(self, bytes_per_second: int | None) -> None:
        """Start ``stock`` anew under its old name, with or without a write limit: Docker cannot change it in place."""
        stock = self._stock()
        self._start(replace(stock, limits=replace(stock.limits, write_bytes_per_second=bytes_per_second)))
        wait_ready(self._place, "stock")

    def neighbour_comes(self) -> None:
        """Keep ``stock`` on one core, and start a busy neighbour there."""
        self._keep_stock_on(self._cores.subject)
        for service in self._neighbours():
            self._start(service)
            self._visiting.add(service.name)

    def neighbour_goes(self) -> None:
        """Stop it, and give ``stock`` every core again."""
        for service in self._neighbours():
            self._visiting.discard(service.name)
            self._place.stop(service.name)
        self._keep_stock_on(self._cores.all)

    def _keep_stock_on(self, cpuset: str | None) -> None:
        if cpuset is not None:
            self._place.keep_on("stock", cpuset)

    def _neighbours(self) -> list[Service]:
        """One container with more weight, or as many processes: each in a session, hence an autogroup, of its own."""
        command = ("-m", f"{SHOP}.burner", "--processes")
        cpuset = self._cores.subject
        if self.in_containers:
            limits = Limits(cpuset=cpuset, cpu_shares=1024 * NEIGHBOUR_WEIGHT)
            return [Service("neighbour", (*command, "2"), limits=limits)]
        names = [f"neighbour-{number}" for number in range(NEIGHBOUR_WEIGHT)]
        return [Service(name, (*command, "1"), limits=Limits(cpuset=cpuset)) for name in names]

    def delay_prices(self, delay_ms: int) -> None:
        """Let ``prices`` answer after so many milliseconds."""
        self._put(f"{self._place.url('prices')}/delay?ms={delay_ms}")

    def recommend(self, cpu_ms: int) -> None:
        """Switch the feature in ``web`` that computes so many milliseconds for every cart; 0 switches it off."""
        self._put(f"{self._place.url('web')}/flags?recommend_cpu_ms={cpu_ms}")

    def _put(self, url: str) -> None:
        try:
            self._session.put(url, timeout=10).raise_for_status()
        except requests.RequestException as problem:
            raise DemoError(f"PUT {url} failed: {problem}") from problem

    def output(self) -> str:
        """What the instrumented services printed last."""
        return "\n".join(f"{name}: {self._place.output(name).strip()}" for name in ("web", "stock"))

    def close(self) -> None:
        """Close the connections of this object; the places close themselves."""
        self._session.close()
