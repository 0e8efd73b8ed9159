"""The faults: what is done to the shop, which cause it is, and how many milliseconds it costs where that is fixed.

Their sizes are a few hundred milliseconds a request, so that the truth stands out on a small and noisy machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from layerline_api.demo.running import Shop

QUOTA_RATIO = 0.1
#: Longer than the other faults: a stall is read every 200 ms, and its edges are uncertain by about that much.
WRITE_BYTES_PER_SECOND = 512 * 1024
USUAL_DELAY_MS = 2
SLOW_DELAY_MS = 252
RECOMMEND_CPU_MS = 250


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``begin`` and ``end`` work on the shop; ``healthy`` load runs before ``begin``."""

    title: str
    cause: str
    """The cause that a verdict must name first."""
    service: str
    """The service whose part it must be."""
    begin: Callable[[Shop], None]
    end: Callable[[Shop], None]
    entity: Callable[[Shop], str | None] = lambda _: None
    """The id of the entity that it must name; None: it is not fixed beforehand."""
    neighbour: Callable[[Shop], str | None] = lambda _: None
    """The id of the neighbour that it must name first; None: there is none."""
    constant_ns: int | None = None
    """What the fault adds to a request, where that is fixed. Otherwise the load generator measures it."""
    unable: str | None = None
    """Why it cannot be shown here."""


def all_faults(quota: str | None = None, neighbour: str | None = None, write_limit: str | None = None) -> list[Fault]:
    """The five faults in the order of the demo; the arguments say why the machine does not allow one."""

    def stock(shop: Shop) -> str | None:
        return shop.entities["stock"].id if shop.in_containers else None

    return [
        Fault(
            f"CPU limit: {QUOTA_RATIO} core for stock",
            "container.cpu_throttled",
            "stock",
            lambda shop: shop.limit_cpu(QUOTA_RATIO),
            lambda shop: shop.limit_cpu(None),
            entity=stock,
            unable=quota,
        ),
        Fault(
            "busy neighbour on stock's core",
            "host.cpu_contended",
            "stock",
            lambda shop: shop.neighbour_comes(),
            lambda shop: shop.neighbour_goes(),
            neighbour=lambda shop: shop.entities["neighbour"].id if shop.in_containers else None,
            unable=neighbour,
        ),
        Fault(
            f"write limit: {WRITE_BYTES_PER_SECOND // 1024} KiB/s for stock",
            "container.io_throttled",
            "stock",
            lambda shop: shop.limit_writes(WRITE_BYTES_PER_SECOND),
            lambda shop: shop.limit_writes(None),
            entity=stock,
            unable=write_limit,
        ),
        Fault(
            f"slow dependency: prices +{SLOW_DELAY_MS - USUAL_DELAY_MS} ms",
            "dependency.slow",
            "stock",
            lambda shop: shop.delay_prices(SLOW_DELAY_MS),
            lambda shop: shop.delay_prices(USUAL_DELAY_MS),
            entity=lambda shop: shop.prices_address,
            constant_ns=(SLOW_DELAY_MS - USUAL_DELAY_MS) * 1_000_000,
        ),
        Fault(
            f"slow code: web computes +{RECOMMEND_CPU_MS} ms",
            "app.cpu_busy",
            "web",
            lambda shop: shop.recommend(RECOMMEND_CPU_MS),
            lambda shop: shop.recommend(0),
            entity=lambda shop: shop.entities["web"].id if shop.in_containers else None,
            constant_ns=RECOMMEND_CPU_MS * 1_000_000,
        ),
    ]
