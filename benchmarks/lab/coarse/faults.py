"""The faults of the coarse lab: how each is done to the running shop, and who must be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from benchmarks.lab.coarse.shop import Shop
from benchmarks.lab.injectors.network import slow_link


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``entities`` are names of services; for ``host`` the machine, too, and the neighbour."""

    name: str
    inject: Callable[[Shop], AbstractContextManager[None]]
    entities: tuple[str, ...]
    layers: tuple[str, ...]
    operations: str = "all"
    """Which requests it hits: all, a part of a mixed operation's, or those of a rare one."""


def code(service: str, query: str) -> Callable[[Shop], AbstractContextManager[None]]:
    """The service's own code is slow or fails, as ``PUT /fault`` takes it."""

    @contextmanager
    def inject(shop: Shop) -> Iterator[None]:
        shop.put(service, f"/fault?{query}")
        try:
            yield
        finally:
            shop.put(service, "/fault")

    return inject


@contextmanager
def cpu_limit(shop: Shop) -> Iterator[None]:
    """A CPU limit of less than stock usually uses, so that its requests queue."""
    shop.limit("stock", 0.05)
    try:
        yield
    finally:
        shop.limit("stock", None)


@contextmanager
def neighbour(shop: Shop) -> Iterator[None]:
    """A busy container on the core that stock is kept on."""
    shop.neighbour_comes()
    try:
        yield
    finally:
        shop.neighbour_goes()


@contextmanager
def link(shop: Shop) -> Iterator[None]:
    """What stock sends leaves slowly: 16 KiB in about 160 ms."""
    with slow_link(shop.container("stock"), 800_000):
        yield


FAULTS = (
    Fault("cpu_limit", cpu_limit, ("stock",), ("container",)),
    Fault("mixed_slow_code", code("cart", "operation=cart&cpu=300&share=15"), ("cart",), ("app",), "a part"),
    Fault("slow_dependency", code("prices", "sleep=250"), ("prices",), ("dependency", "app")),
    Fault("neighbour", neighbour, ("host", "neighbour", "stock"), ("host",)),
    Fault("rare_slow_code", code("stock", "operation=report&sleep=600"), ("stock",), ("app",), "a rare one"),
    Fault("slow_link", link, ("stock",), ("network",)),
    Fault("mixed_sleep", code("stock", "operation=stock&sleep=400&share=15"), ("stock",), ("app",), "a part"),
    Fault("errors", code("stock", "operation=stock&fail=40"), ("stock",), ("app",)),
)
