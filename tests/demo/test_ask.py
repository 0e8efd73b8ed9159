"""Reading a verdict from the API's JSON."""

from __future__ import annotations

from typing import Any

from layerline_api.demo.ask import read


def part(cause: str, service: str, entity: str, excess_ns: int | None, lost_ns: int = 10) -> dict[str, Any]:
    """A part as section 7.3 has it."""
    return {
        "cause": cause,
        "service": service,
        "entity": {"type": "container", "id": entity, "name": entity},
        "lost_ns": lost_ns,
        "low_ns": 0,
        "high_ns": lost_ns,
        "usual_ns": None if excess_ns is None else 0,
        "usual_low_ns": None if excess_ns is None else 0,
        "usual_high_ns": None if excess_ns is None else 0,
        "excess_ns": excess_ns,
        "by": [{"entity": {"type": kind, "id": kind, "name": kind}, "share": 0.5} for kind in ("host", "container")],
    }


def body(culprits: list[dict[str, Any]], *parts: dict[str, Any]) -> dict[str, Any]:
    """A verdict as the API answers it."""
    return {
        "trace_id": "aa",
        "duration_ns": 30,
        "usual_ns": None,
        "unexplained_ns": 10,
        "parts": list(parts),
        "culprits": culprits,
        "settled": True,
    }


def test_the_first_culprit_is_found_among_the_parts() -> None:
    """A culprit names cause and entity; its part has the milliseconds, of the service that lost most of them."""
    culprit = {"cause": "host.cpu_contended", "entity": {"type": "host", "id": "h", "name": "h"}}
    small, large = (part("host.cpu_contended", name, "h", ns) for name, ns in (("web", 5), ("stock", 9)))
    first = read(body([culprit], part("app.cpu_busy", "web", "c", 7), small, large)).first
    assert first is not None
    assert (first.service, first.excess_ns) == ("stock", 9)
    assert first.by == ("container",)


def test_without_usual_what_was_lost_counts() -> None:
    """A request without a usual is ranked by what it lost, so that stands for the excess."""
    assert read(body([], part("app.blocked", "web", "c", None, lost_ns=12))).parts[0].excess_ns == 12


def test_no_culprit_is_no_part() -> None:
    """A verdict that blames nobody has no first culprit."""
    assert read(body([], part("app.blocked", "web", "c", 1))).first is None
