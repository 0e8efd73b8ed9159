"""The story: healthy load, a fault, load with the fault, the fault lifted; then the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from layerline_api.demo.ask import Ask
from layerline_api.demo.faults import Fault
from layerline_api.demo.intruders import undisturbed
from layerline_api.demo.load import Response, median_ns, send
from layerline_api.demo.place import DemoError
from layerline_api.demo.progress import Progress
from layerline_api.demo.running import Shop
from layerline_api.demo.watching import Watching

#: A usual needs at least 20 requests before; a few more make its middle steady, and outnumber the slow ones.
HEALTHY = 26
FAULTY = 12
#: Requests that are sent and not judged: after a start, and until a fault has taken hold.
WARM_UP = 6
SETTLING = 2
#: How many loads are sent again in one demo because the machine did other work meanwhile.
REPEATS = 2
#: Spans are flushed every second and written within another.
ARRIVAL_S = 10.0
#: Longer than the period of a CPU limit (100 ms): each request begins with its full quota, so that the truth is steady.
PAUSE_S = 0.12


@dataclass(frozen=True, slots=True)
class Chapter:
    """What the client saw of one fault."""

    fault: Fault
    entity: str | None
    neighbour: str | None
    healthy: tuple[Response, ...]
    faulty: tuple[Response, ...]
    others: float = 0.0
    """The share of the machine that other work used during the faulty requests."""

    @property
    def measured_ns(self) -> int:
        """What the fault cost, by the client's stopwatch: median with it, less median without."""
        return median_ns(self.faulty) - median_ns(self.healthy)

    @property
    def injected_ns(self) -> int:
        """The fault's own constant where it has one, otherwise as measured."""
        return self.measured_ns if self.fault.constant_ns is None else self.fault.constant_ns


def warm_up(shop: Shop, ask: Ask, progress: Progress) -> None:
    """The first requests, which are slower than the others, and a look whether they arrive. DemoError if not."""
    with progress.stage("warming up", WARM_UP) as stage:
        sent = send(shop.cart, WARM_UP, PAUSE_S, lambda _: stage.advance())
        if ask.verdict(sent[-1].trace_id, ARRIVAL_S, settled=False) is None:
            raise DemoError(f"the server has not heard of the shop's requests:\n{shop.output()}")


def tell(shop: Shop, watching: Watching, faults: Iterable[Fault], progress: Progress) -> Iterator[Chapter]:
    """One chapter after the other. Whatever happens, a fault that was begun is ended."""
    patience = Patience(progress)
    for fault in faults:
        watching.check()
        healthy = load(shop, f"healthy, before: {fault.title}", HEALTHY, progress)
        try:
            fault.begin(shop)
            entity, neighbour = fault.entity(shop), fault.neighbour(shop)
            send(shop.cart, SETTLING, PAUSE_S)
            faulty, others = undisturbed(
                shop.intruders(),
                lambda: load(shop, fault.title, FAULTY, progress),  # noqa: B023 - called before the next fault
                patience.again,
            )
        finally:
            fault.end(shop)
        yield Chapter(fault, entity, neighbour, healthy, faulty, others)


def load(shop: Shop, title: str, count: int, progress: Progress) -> tuple[Response, ...]:
    """Load, with progress."""
    with progress.stage(title, count) as stage:
        responses = send(shop.cart, count, PAUSE_S, lambda _: stage.advance())
        stage.note(f"median {median_ns(responses) / 1e6:.0f} ms")
    return responses


class Patience:
    """How often the demo sends a load again because the machine did other work: a few times, for it shall end."""

    def __init__(self, progress: Progress) -> None:
        self._left = REPEATS
        self._progress = progress

    def again(self, share: float) -> bool:
        """Whether to do it again; says so."""
        said = f"    other work used {share:.0%} of the machine meanwhile"
        if self._left == 0:
            self._progress.console.print(said)
            return False
        self._left -= 1
        self._progress.console.print(f"{said}: once more")
        return True
