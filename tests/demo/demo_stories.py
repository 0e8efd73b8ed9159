"""Chapters and verdicts by hand, for the tests of the demo's arithmetic."""

from __future__ import annotations

from layerline_api.demo.ask import Part, Verdict
from layerline_api.demo.faults import Fault
from layerline_api.demo.load import Response
from layerline_api.demo.story import Chapter

MS = 1_000_000


def fault(cause: str = "container.cpu_throttled", service: str = "stock", constant_ms: int | None = None) -> Fault:
    """A fault that does nothing."""
    constant_ns = None if constant_ms is None else constant_ms * MS
    return Fault("a fault", cause, service, lambda _: None, lambda _: None, constant_ns=constant_ns)


def responses(*durations_ms: int) -> tuple[Response, ...]:
    """Requests that took so long."""
    return tuple(Response(f"{number:032x}", 0, ms * MS) for number, ms in enumerate(durations_ms, start=1))


def chapter(
    healthy_ms: int = 50,
    faulty_ms: int = 350,
    requests: int = 5,
    entity: str | None = None,
    neighbour: str | None = None,
    **of_fault: int | str,
) -> Chapter:
    """A chapter whose requests all took the same time."""
    healthy, faulty = responses(*[healthy_ms] * requests), responses(*[faulty_ms] * requests)
    return Chapter(fault(**of_fault), entity, neighbour, healthy, faulty)  # type: ignore[arg-type]  # by name


def part(
    cause: str = "container.cpu_throttled",
    excess_ms: int = 300,
    low_ms: int | None = None,
    high_ms: int | None = None,
    usual_ms: int = 0,
    service: str = "stock",
    entity_id: str = "c1",
    by: tuple[str, ...] = (),
) -> Part:
    """A part; low and high are of what was lost, as in the API."""
    lost_ms = excess_ms + usual_ms
    return Part(
        cause,
        service,
        "container",
        entity_id,
        f"{service}-1",
        lost_ms * MS,
        (lost_ms if low_ms is None else low_ms) * MS,
        (lost_ms if high_ms is None else high_ms) * MS,
        *[usual_ms * MS] * 3,
        excess_ms * MS,
        by,
    )


def verdict(*parts: Part, trace_id: str = "1") -> Verdict:
    """A verdict that blames its first part first."""
    return Verdict(trace_id, 350 * MS, 50 * MS, 0, parts, parts[0] if parts else None, True)
