"""One run: healthy, a fault, healthy again, the next fault …, kept as OTLP with labels beside it."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.lab.coarse.each_cpu import recorded
from benchmarks.lab.coarse.faults import Fault
from benchmarks.lab.coarse.labels import Labels, Window
from benchmarks.lab.coarse.shop import PORT, Customers, Shop, open_shop
from layerline_api.demo import layout

#: The file with what each CPU did.
EACH_CPU = "each_cpu.jsonl"
#: What is left out at the beginning of a window: a limit that is lifted leaves a queue behind.
AFTERWARDS_NS = 10 * 10**9


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last, in seconds."""

    first: float = 120
    """Healthy, before the first fault: the first half, and the first quiet window, which is compared with it."""
    fault: float = 65
    healthy: float = 40
    """After each fault."""

    def expected_s(self, faults: int) -> float:
        """How long a run takes, without its containers' start."""
        return self.first + faults * (self.fault + self.healthy)


def record(console: Console, folder: Path, faults: Sequence[Fault], pace: Pace) -> Labels:
    """Run the shop and do the faults; the folder then holds the recording. DemoError, NoEngine."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_shop(console) as shop, layout.staying_on(shop.cores.rest), recorded(folder / EACH_CPU):
        with Customers(shop):
            time.sleep(pace.first / 2)
            windows = [_quiet(1, pace.first / 2)]
            for number, fault in enumerate(faults, start=1):
                console.print(f"  {fault.name}", markup=False)
                windows.append(_faulty(shop, fault, pace))
                windows.append(_quiet(number + 1, pace.healthy))
            shop.watching.check()
        shop.keep(folder)
        labels = Labels(tuple(windows), {entity.id: name for name, entity in shop.entities.items()})
    for file in (folder / "recording").iterdir():
        file.rename(folder / file.name)
    (folder / "recording").rmdir()
    labels.write(folder)
    return labels


def _quiet(number: int, seconds: float) -> Window:
    from_ns = time.time_ns() + AFTERWARDS_NS
    time.sleep(seconds)
    return Window(f"quiet {number}", from_ns, time.time_ns(), None)


def _faulty(shop: Shop, fault: Fault, pace: Pace) -> Window:
    from_ns = time.time_ns()
    with fault.inject(shop):
        time.sleep(pace.fault)
        to_ns = time.time_ns()
    return Window(fault.name, from_ns, to_ns, fault.name, _names(shop, fault), fault.layers)


def _names(shop: Shop, fault: Fault) -> tuple[str, ...]:
    """The ids, names and addresses of who may be named."""
    found = []
    for name in fault.entities:
        if name == "host":
            found.append(socket.gethostname())
        elif (entity := shop.entities.get(name)) is not None:
            found += [entity.id, entity.name]
        if name != "host":
            found += [name, shop.place.peer(name, PORT)]
    return tuple(dict.fromkeys(found))
