"""Does it find incidents by itself, and nothing else? Five services in real containers, five faults at known times.

    python benchmarks/incidents.py [--healthy 300] [--fault 100] [--gap 100] [--keep FOLDER]

``web`` asks ``stock`` asks ``prices``; beside them ``kiosk`` asks ``depot`` asks ``prices``, and nothing ever happens
to these two but what ``prices`` does to them. After healthy minutes stock's CPU limit is lowered while it runs; then a
busy neighbour is started on its core; then web is deployed anew, as version 1.5 with slow code; then a fifth of web's
carts compute more, and nothing is deployed; then prices answers late, which both chains see. Each fault lasts and is
taken away, with healthy time between. The goal: exactly five incidents, each with its start (within 10 s), noticed
soon, its cause, its entity, its first sign, the change that brought it where there was one, and the callee where calls
got slower; and none in the healthy stretches. Exit codes: 0 reached, 1 missed, 2 it could not run.
``python -m benchmarks.lab.coarse`` does the like with plain OpenTelemetry and readings every 15 or 60 s, rare
operations and slow links included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import DockerException
from five_services import Customers, Shop, clock, open_shop, seconds
from requests.exceptions import RequestException
from rich.console import Console

from layerline_api.asking import CannotAsk, NoAnswer
from layerline_api.demo import engine, layout
from layerline_api.demo.place import DemoError
from layerline_api.demo.show import ending_on_signals, ignore_signals

QUOTA_RATIO, NEIGHBOUR_SHARES, SLOW_CODE_MS = 0.1, 8 * 1024, 250
MIXED_MS, MIXED_PERCENT, LATE_MS = 300, 20, 250
#: A start is right within this much.
START_S = 10
#: Trouble that most requests show must be noticed so many seconds after its start, that of a part the second.
NOTICED_S, NOTICED_PART_S = 30, 75
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
    change_kinds: tuple[str, ...]  # none: nothing was reported
    change_entity_id: str | None  # None: not asked
    noticed_s: float = NOTICED_S
    edge: str | None = None  # the callee whose calls got slower; None: not asked


def run(console: Console, stack: ExitStack, options: argparse.Namespace) -> bool:
    """Open the shop, do the faults, and hold what was found against them. True when the goal was reached."""
    watched = open_shop(console, stack)
    shop = watched.shop
    began_s = time.time()
    with layout.staying_on(watched.cores.rest), Customers(shop, {"web": 0.2, "kiosk": 0.4}) as customers:
        console.print(f"{clock(began_s)} five services, {options.healthy:.0f} healthy seconds")
        time.sleep(options.healthy)
        injected = inject(console, shop, options)
        time.sleep(max(0.0, AFTER_S - options.gap))
        watched.watching.check()
        console.print(f"{clock(time.time())} {customers.sent:,} carts; asking for incidents")
    found = watched.incidents(began_s)
    if options.keep is not None:
        watched.keep_store(options.keep)
    return compare(console, injected, found)


def inject(console: Console, shop: Shop, options: argparse.Namespace) -> list[Injected]:
    """The faults, each followed by healthy time."""
    injected = []

    def fault(begin: Callable[[], None], end: Callable[[], None], tell: Callable[[float], Injected]) -> None:
        at_s = time.time()
        begin()
        injected.append(tell(at_s))
        console.print(f"{clock(at_s)} {injected[-1].name}")
        time.sleep(options.fault)
        end()
        console.print(f"{clock(time.time())} healthy again")
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
        lambda: shop.neighbour_comes(NEIGHBOUR_SHARES),
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
        lambda: shop.slow_web(SLOW_CODE_MS),
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
    fault(
        lambda: shop.flag_web(MIXED_MS, MIXED_PERCENT),
        lambda: shop.flag_web(0, 100),
        lambda at_s: Injected(
            f"{MIXED_PERCENT} % of web's carts compute +{MIXED_MS} ms",
            at_s,
            "app.cpu_busy",
            "app",
            shop.entities["web"].id,
            (),
            None,
            NOTICED_PART_S,
        ),
    )
    fault(
        lambda: shop.late_prices(LATE_MS),
        lambda: shop.late_prices(2),
        lambda at_s: Injected(
            f"prices answers after {LATE_MS} ms",
            at_s,
            "dependency.slow",
            "dependency",
            "prices:8000",
            (),
            None,
            edge="prices:8000",
        ),
    )
    return injected


def compare(console: Console, injected: Sequence[Injected], found: Sequence[Mapping[str, Any]]) -> bool:
    """Print both and whether they fit. True when they fit one by one."""
    good = len(injected) == len(found)
    console.print(f"\ninjected {len(injected)}, found {len(found)}")
    for one_found in found:
        ended = (one_found["end"] or "")[11:19]
        console.print(f"  found {one_found['start'][11:19]}-{ended} {one_found['summary']}")
    for fault in injected:
        near = [one for one in found if abs(seconds(one["start"]) - fault.at_s) <= 60]
        console.print(f"{fault.name} at {clock(fault.at_s)}")
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
    offset_s = seconds(incident["start"]) - fault.at_s
    entity = incident["entity"] or {"type": "", "id": "", "name": "none"}
    signs = incident["first_signs"]
    change = incident["changes"][0] if incident["changes"] else None
    changed = change is not None and change["likely"] and change["kind"] in fault.change_kinds
    if changed and fault.change_entity_id is not None:
        changed = bool(change["entity"]) and change["entity"]["id"] == fault.change_entity_id
    right_entity = entity["type"] == "host" if fault.entity_id is None else entity["id"] == fault.entity_id
    noticed_s = seconds(incident["noticed"]) - fault.at_s
    found = [
        ("start", abs(offset_s) <= START_S, f"{offset_s:+.1f} s"),
        ("noticed", noticed_s <= fault.noticed_s, f"after {noticed_s:.0f} s, at most {fault.noticed_s:.0f}"),
        ("cause", incident["cause"] == fault.cause, str(incident["cause"])),
        ("entity", right_entity, f"{entity['type']} {entity['name']}"),
        ("first sign", bool(signs) and signs[0]["layer"] == fault.layer, ", ".join(sign["layer"] for sign in signs)),
    ]
    if fault.change_kinds:
        found.append(("change", changed, change["what"] if change else "none"))
    if fault.edge is not None:
        edges = [f"{one['caller']} to {one['callee']}, at the {one['side']}" for one in incident["edges"]]
        right = (
            bool(edges) and incident["edges"][0]["callee"] == fault.edge and incident["edges"][0]["side"] == "callee"
        )
        found.append(("edge", right, "; ".join(edges) or "none"))
    return found


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
        except (DemoError, engine.NoEngine, DockerException, RequestException, CannotAsk, NoAnswer) as problem:
            print(f"incidents: {problem}", file=sys.stderr)
            return 2
        finally:
            ignore_signals()


if __name__ == "__main__":
    sys.exit(main())
