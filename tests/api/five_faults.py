"""A quarter of an hour of the shop with the five faults of the demo, one after the other: for pages and pictures.

The same causes, services and neighbour as ``layerline_api.demo.faults``, drawn instead of injected, so nobody waits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from shop import During, Fault, Request, S, carts, crowded_out, happened, serve, slow_code, slow_prices, throttled
from spans import a_while_ago, series_rows

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings


def writing(request: Request, draw: random.Random) -> None:
    """Stock's limit of writing binds."""
    request.written = draw.uniform(150, 350)


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault: what must be blamed for it, and when it was, in seconds from the shop's opening."""

    cause: str
    entity: str
    """How a heading names who is blamed."""
    from_s: int
    fault: Fault

    @property
    def to_s(self) -> int:
        return self.from_s + LASTS_S


LASTS_S, HEALTHY_S = 60, 40
FAULTS = (
    Injected("container.cpu_throttled", "container stock-1", 330, throttled),
    Injected("host.cpu_contended", "host-1", 430, crowded_out),
    Injected("container.io_throttled", "container stock-1", 530, writing),
    Injected("dependency.slow", "prices:8000", 630, slow_prices),
    Injected("app.cpu_busy", "container web-1", 730, slow_code),
)
SECONDS = FAULTS[-1].to_s + HEALTHY_S


def opened(folder: Path, rate: float = 1.5, zero_ns: int | None = None) -> tuple[Correlator, int]:
    """The store with all of it worked out, and when the shop opened, in ns since 1970. The caller closes it."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    zero_ns = a_while_ago(SECONDS + 20) if zero_ns is None else zero_ns
    quota, neighbour, limit, _, code = FAULTS
    ran = range(SECONDS)
    at = [second * 1000 for second in ran]

    def since(fault: Injected, ms_a_second: float) -> list[float]:
        """A counter that grows while the fault lasts."""
        return [max(0, min(second, fault.to_s) - fault.from_s) * ms_a_second for second in ran]

    def deployed(request: Request, at_s: float, draw: random.Random) -> None:
        request.web_version = "1.5" if code.from_s <= at_s < code.to_s else "1.4"

    noisy, held = since(neighbour, 1000), since(quota, 900)
    writes = {"disk.io.direction": "write"}
    readings = [
        {"signal": "container.cpu.time", "container": "stock-1", "at": at, "values": [a * 0.03 for a in at]},
        {"signal": "container.cpu.throttled", "container": "stock-1", "at": at, "values": held},
        {"signal": "container.cpu.limit", "container": "stock-1", "at": at,
         "values": [0.1 if quota.from_s <= second < quota.to_s else 2.0 for second in ran]},
        {"signal": "container.cpu.time", "container": "web-1", "at": at, "values": [a * 0.02 for a in at]},
        {"signal": "container.memory.working_set", "container": "stock-1", "at": at,
         "values": [6e7 + 4e4 * second for second in ran]},
        {"signal": "container.cpu.time", "container": "noisy", "at": at[neighbour.from_s - 1 :],
         "values": noisy[neighbour.from_s - 1 :]},
        {"signal": "system.cpu.time", "tags": {"cpu.mode": "user"}, "at": at,
         "values": [a / 20 + b for a, b in zip(at, noisy, strict=True)]},
        {"signal": "container.disk.limit", "container": "stock-1", "tags": writes, "at": at[limit.from_s - 1 :],
         "values": [524_288.0 if second < limit.to_s else 1e9 for second in ran[limit.from_s - 1 :]]},
        {"signal": "container.disk.io", "container": "stock-1", "tags": writes, "at": at,
         "values": since(limit, 524_288.0)},
        {"signal": "system.disk.io_time", "tags": {"system.device": "vda"}, "at": at, "values": since(limit, 5.0)},
    ]  # fmt: skip
    events = [
        happened("stock-1", "container.update", zero_ns + (quota.from_s - 1) * S),
        happened("noisy", "container.start", zero_ns + (neighbour.from_s - 1) * S),
        happened("stock-1", "container.update", zero_ns + (limit.from_s - 1) * S),
    ]
    serve(
        correlator,
        carts(
            zero_ns, SECONDS, *(During(one.from_s, one.to_s, one.fault) for one in FAULTS), rate=rate, change=deployed
        ),
        [series_rows(drawn, zero_ns) for drawn in readings],
        events,
    )
    return correlator, zero_ns
