"""Does it find incidents by itself, and nothing else? Five services in real containers, three faults at known times.

    python benchmarks/incidents.py [--healthy 300] [--fault 100] [--gap 100] [--keep FOLDER]

``web`` asks ``stock`` asks ``prices``; beside them ``kiosk`` asks ``depot`` asks ``prices``, and nothing ever happens
to these two. After healthy minutes stock's CPU limit is lowered while it runs; then a busy neighbour is started on its
core; then web is deployed anew, as version 1.5 with slow code. Each fault lasts and is taken away, with healthy time
between. The goal: exactly three incidents, each with its start (within 10 s), its cause, its entity, its first sign and
the change that brought it, and none before, between or after. Exit codes: 0 reached, 1 missed, 2 it could not run.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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

from layerline_api.demo import engine, layout
from layerline_api.demo.containers import Containers
from layerline_api.demo.layout import Cores
from layerline_api.demo.load import one
from layerline_api.demo.place import DemoError, Entity, Limits, Service, instrumented, wait_ready
from layerline_api.demo.processes import Processes
from layerline_api.demo.show import ending_on_signals, ignore_signals, report_problems
from layerline_api.demo.watching import Watching

SHOP = "layerline_api.demo.shop"
PORT = 8000
QUOTA_RATIO, NEIGHBOUR_SHARES, SLOW_CODE_MS = 0.1, 8 * 1024, 250
#: A start is right within this much.
START_S = 10
#: Incidents are looked for at the end until this long after the last fault: readings settle, three calm steps pass.
AFTER_S = 60


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault, when it began, and what must be said of it."""

    name: str
    at_s: float
    cause: str
    layer: str
    entity_id: str | None  # None: the host, whatever its id
    change_kinds: tuple[str, ...]
    change_entity_id: str | None  # None: not asked


class Shop:
    """Five services, and what is done to them."""

    def __init__(self, place: Containers, cores: Cores, watching: Watching) -> None:
        self.entities: dict[str, Entity] = {}
        self._place, self._cores, self._watching = place, cores, watching

    def open(self) -> None:
        """Start the five and wait until each answers."""
        self._start("prices", ("-m", f"{SHOP}.prices"), cpuset=self._cores.rest)
        self._stock("stock", self._cores.subject)
        self._stock("depot", self._cores.rest)
        self.deploy_web("web", "stock", "1.4")
        self.deploy_web("kiosk", "depot", "1.4")

    def _stock(self, name: str, cpuset: str | None) -> None:
        arguments = ("--prices", self._place.peer("prices", PORT), "--journal", self._place.folder(f"journal-{name}"))
        self._start(name, instrumented(f"{SHOP}.stock"), *arguments, cpuset=cpuset, folder=f"journal-{name}")

    def deploy_web(self, name: str, stock: str, version: str) -> None:
        """Start a front anew in this version."""
        environment = {"OTEL_RESOURCE_ATTRIBUTES": f"service.version={version}"}
        self._start(
            name, instrumented(f"{SHOP}.web"), "--stock", self._place.peer(stock, PORT), environment=environment
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

    def neighbour_comes(self) -> None:
        """A busy container with more weight on stock's core."""
        limits = Limits(cpuset=self._cores.subject, cpu_shares=NEIGHBOUR_SHARES)
        command = ("-m", f"{SHOP}.burner", "--processes", "2")
        self.entities["neighbour"] = self._place.start(Service("neighbour", command, limits=limits))

    def neighbour_goes(self) -> None:
        self._place.stop("neighbour")

    def slow_web(self) -> None:
        """Deploy web 1.5, whose code is slow from its first request on."""
        self.deploy_web("web", "stock", "1.5")
        requests.put(f"{self.url('web')}/flags?recommend_cpu_ms={SLOW_CODE_MS}", timeout=10).raise_for_status()

    def url(self, name: str) -> str:
        return self._place.url(name)


class Customers:
    """One customer for each front, who asks again and again, whatever is answered."""

    def __init__(self, shop: Shop, pauses_s: Mapping[str, float]) -> None:
        self._shop, self._stop, self.sent = shop, threading.Event(), 0
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

    def _ask(self, name: str, pause_s: float) -> None:
        while not self._stop.wait(pause_s):
            try:
                where = urlsplit(self._shop.url(name))
                one(where.hostname or "127.0.0.1", where.port or 80, "/cart")
                self.sent += 1
            except (DemoError, DockerException, RequestException, KeyError):
                continue  # it is being deployed


def run(console: Console, stack: ExitStack, options: argparse.Namespace) -> bool:
    """Open the shop, do the faults, and hold what was found against them. True when the goal was reached."""
    cores = layout.here()
    if cores.subject is None:
        raise DemoError("one core found, expected at least two")
    client = engine.connect()
    stack.callback(client.close)
    place = Containers(client)
    stack.callback(report_problems, console, place)
    stack.enter_context(place)
    engine.probe(place)
    watching = Watching(place, stack.enter_context(Processes()), cores)
    watching.open_server()
    watching.open_agent()
    shop = Shop(place, cores, watching)
    shop.open()
    began_s = time.time()
    with layout.staying_on(cores.rest), Customers(shop, {"web": 0.2, "kiosk": 0.4}) as customers:
        console.print(f"{_clock(began_s)} five services, {options.healthy:.0f} healthy seconds")
        time.sleep(options.healthy)
        injected = inject(console, shop, options)
        time.sleep(max(0.0, AFTER_S - options.gap))
        watching.check()
        console.print(f"{_clock(time.time())} {customers.sent:,} carts; asking for incidents")
    found = ask(watching, began_s)
    if options.keep is not None:
        place.container("server").stop(timeout=20)
        place.copy("server", f"{place.folder('store')}/layerline", options.keep)
    return compare(console, injected, found)


def inject(console: Console, shop: Shop, options: argparse.Namespace) -> list[Injected]:
    """The three faults, each followed by healthy time."""
    injected = []

    def fault(begin: Callable[[], None], end: Callable[[], None], tell: Callable[[float], Injected]) -> None:
        at_s = time.time()
        begin()
        injected.append(tell(at_s))
        console.print(f"{_clock(at_s)} {injected[-1].name}")
        time.sleep(options.fault)
        end()
        console.print(f"{_clock(time.time())} healthy again")
        time.sleep(options.gap)

    fault(
        lambda: shop.limit_stock(QUOTA_RATIO),
        lambda: shop.limit_stock(None),
        lambda at_s: Injected(
            f"CPU limit: {QUOTA_RATIO} core for stock",
            at_s,
            "container.cpu_throttled",
            "container",
            shop.entities["stock"].id,
            ("limit", "container.update"),
            shop.entities["stock"].id,
        ),
    )
    fault(
        shop.neighbour_comes,
        shop.neighbour_goes,
        lambda at_s: Injected(
            "busy neighbour on stock's core",
            at_s,
            "host.cpu_contended",
            "host",
            None,
            ("container.start", "neighbour"),
            shop.entities["neighbour"].id,
        ),
    )
    fault(
        shop.slow_web,
        lambda: shop.deploy_web("web", "stock", "1.6"),
        lambda at_s: Injected(
            f"web 1.5 computes +{SLOW_CODE_MS} ms",
            at_s,
            "app.cpu_busy",
            "app",
            shop.entities["web"].id,
            ("version",),
            None,
        ),
    )
    return injected


def ask(watching: Watching, since_s: float) -> list[dict[str, Any]]:
    """The incidents since then, the oldest first, whole."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {watching.token}"
    since = f"{max(1, round(time.time() - since_s))}s"
    items = session.get(f"{watching.url}/api/v1/incidents?since={since}", timeout=60).json()["items"]
    return [session.get(f"{watching.url}/api/v1/incidents/{item['id']}", timeout=60).json() for item in reversed(items)]


def compare(console: Console, injected: Sequence[Injected], found: Sequence[Mapping[str, Any]]) -> bool:
    """Print both and whether they fit. True when they fit one by one."""
    good = len(injected) == len(found)
    console.print(f"\ninjected {len(injected)}, found {len(found)}")
    for one_found in found:
        ended = (one_found["end"] or "")[11:19]
        console.print(f"  found {one_found['start'][11:19]}-{ended} {one_found['summary']}")
    for fault in injected:
        near = [one for one in found if abs(_seconds(one["start"]) - fault.at_s) <= 60]
        console.print(f"{fault.name} at {_clock(fault.at_s)}")
        if len(near) != 1:
            console.print(f"  MISSED: {len(near)} incidents began within a minute of it")
            good = False
            continue
        for what, is_right, seen in checks(fault, near[0]):
            console.print(f"  {'right ' if is_right else 'WRONG '} {what}: {seen}")
            good = good and is_right
    console.print("goal reached" if good else "goal MISSED")
    return good


def checks(fault: Injected, incident: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """(what, whether it is right, what was said) of one incident."""
    offset_s = _seconds(incident["start"]) - fault.at_s
    entity = incident["entity"] or {"type": "", "id": "", "name": "none"}
    signs = incident["first_signs"]
    change = incident["changes"][0] if incident["changes"] else None
    changed = change is not None and change["likely"] and change["kind"] in fault.change_kinds
    if changed and fault.change_entity_id is not None:
        changed = bool(change["entity"]) and change["entity"]["id"] == fault.change_entity_id
    right_entity = entity["type"] == "host" if fault.entity_id is None else entity["id"] == fault.entity_id
    return [
        ("start", abs(offset_s) <= START_S, f"{offset_s:+.1f} s"),
        ("cause", incident["cause"] == fault.cause, str(incident["cause"])),
        ("entity", right_entity, f"{entity['type']} {entity['name']}"),
        ("first sign", bool(signs) and signs[0]["layer"] == fault.layer, ", ".join(sign["layer"] for sign in signs)),
        ("change", changed, change["what"] if change else "none"),
    ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at_s))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python benchmarks/incidents.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--healthy", type=float, default=300, metavar="S", help="healthy seconds at first (300)")
    parser.add_argument("--fault", type=float, default=100, metavar="S", help="how long each fault lasts (100)")
    parser.add_argument("--gap", type=float, default=100, metavar="S", help="healthy seconds after each (100)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the server's store into this folder")
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    with ending_on_signals(), ExitStack() as stack:
        try:
            return 0 if run(console, stack, options) else 1
        except KeyboardInterrupt:
            return 130
        except (DemoError, engine.NoEngine, DockerException, RequestException) as problem:
            print(f"incidents: {problem}", file=sys.stderr)
            return 2
        finally:
            ignore_signals()


if __name__ == "__main__":
    sys.exit(main())
