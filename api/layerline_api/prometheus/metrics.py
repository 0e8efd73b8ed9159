"""Which metrics there are: their names by Prometheus' conventions, what they count, and of what they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from layerline.signals import SIGNALS, Kind

#: Upper bounds of the buckets of latency, in seconds.
BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0,
    10.0, 30.0, 60.0,
)  # fmt: skip
BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS_S)

#: Units of the signal catalogue: what Prometheus calls them, and how many of ours one is.
_UNITS: dict[str, tuple[str, float]] = {
    "ns": ("seconds", 1e9),
    "By": ("bytes", 1),
    "By/s": ("bytes_per_second", 1),
    "1": ("ratio", 1),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``source``: ``requests``, ``latency``, ``lost`` or ``readings``; ``sample``: its name there."""

    name: str
    type: str  # "counter" | "gauge" | "histogram"
    help: str
    source: str
    sample: str
    labels: tuple[str, ...]
    divisor: float = 1.0
    family: str = ""
    """The name under which its metadata is listed, where that is another."""


_OPERATION = ("service", "operation")
_REQUESTS = (
    Metric(
        "layerline_requests_total", "counter", "Requests by service and operation", "requests", "requests", _OPERATION
    ),
    Metric("layerline_request_errors_total", "counter", "Requests that failed", "requests", "errors", _OPERATION),
    Metric(
        "layerline_slow_requests_total",
        "counter",
        "Requests that took more than twice their usual",
        "requests",
        "slow",
        _OPERATION,
    ),
    Metric(
        "layerline_lost_seconds_total",
        "counter",
        "Time of requests by cause, its layer, and whom it blames; with cause unexplained it adds up to their duration",
        "lost",
        "lost",
        (*_OPERATION, "cause", "layer", "entity_type", "entity"),
    ),
    *(
        Metric(
            f"layerline_request_duration_seconds_{part}",
            "histogram",
            "How long requests took",
            source,
            sample,
            (*_OPERATION, *more),
            family="layerline_request_duration_seconds",
        )
        for part, source, sample, more in (
            ("bucket", "latency", "bound", ("le",)),
            ("sum", "requests", "seconds", ()),
            ("count", "requests", "requests", ()),
        )
    ),
)
_WHOSE = {
    "container": ("container", "container_id", "host", "image"),
    "host": ("host",),
    "service": ("service",),
}


def label(attribute: str) -> str:
    """An attribute's name as that of a label: ``disk.io.direction`` is ``disk_io_direction``."""
    made = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in attribute)
    return f"_{made}" if made[:1].isdigit() else made


def _of_signals() -> Iterator[Metric]:
    for signal in SIGNALS:
        counts = signal.kind is Kind.COUNTER
        unit, divisor = _UNITS.get(signal.unit, ("per_second" if signal.unit.endswith("/s") else "", 1))
        name = label(signal.name)
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        yield Metric(
            f"{name}_total" if counts else name,
            "counter" if counts else "gauge",
            signal.meaning,
            "readings",
            signal.name,
            (*_WHOSE.get(signal.entity, (signal.entity,)), *(label(one) for one in signal.dimensions)),
            divisor,
        )


@cache
def metrics() -> dict[str, Metric]:
    """Every metric by its name: first those of requests, then those of the signal catalogue."""
    return {metric.name: metric for metric in (*_REQUESTS, *_of_signals())}
