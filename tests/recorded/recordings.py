"""Recorded data for the tests, small, and what a reader makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerline_api.recorded.gathered import Gathered, Place, Reader
from layerline_correlator.store.model import Batch

#: 2025-10-09T08:53:20Z
ZERO_US = 1_760_000_000_000_000


def span(trace_id: str, number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A span as Jaeger's API gives it out; microseconds from ``ZERO_US``."""
    references = [] if parent is None else [{"refType": "CHILD_OF", "traceID": trace_id, "spanID": f"{parent:016x}"}]
    return {
        "traceID": trace_id, "spanID": f"{number:016x}", "flags": 1, "operationName": "GET /cart",
        "references": references, "startTime": ZERO_US, "duration": 20_000,
        "tags": [{"key": "span.kind", "type": "string", "value": "server"}],
        "logs": [], "processID": "p1", "warnings": None,
    } | more  # fmt: skip


def trace(trace_id: str, *spans: dict[str, Any], **processes: dict[str, Any]) -> dict[str, Any]:
    """A trace; its process is of the service ``web`` where none is given."""
    return {
        "traceID": trace_id,
        "spans": list(spans),
        "processes": processes or {"p1": {"serviceName": "web", "tags": []}},
        "warnings": None,
    }


def document(traces: list[dict[str, Any]], indent: int | None = None) -> str:
    """The API's answer."""
    return json.dumps({"data": traces, "total": 0, "limit": 0, "offset": 0, "errors": None}, indent=indent)


def shop(traces: int, spans: int = 8, slow_every: int = 50) -> Iterator[dict[str, Any]]:
    """Traces of a shop, ten a second: ``web`` asks ``stock``, which is slow now and then, and works in steps."""
    for number in range(1, traces + 1):
        trace_id, first = f"{number:032x}", number * 100
        begin = ZERO_US + number * 100_000
        slow = 400_000 if number % slow_every == 0 else 0
        calls = [
            span(trace_id, first + place, first, operationName="GET /stock", processID="p2" if place == 1 else "p1")
            | {"startTime": begin + place * 3_000, "duration": 2_000 + (slow if place == 1 else 0)}
            | ({} if place == 1 else {"tags": []})
            for place in range(1, spans)
        ]
        whole = span(trace_id, first, startTime=begin, duration=spans * 3_000 + slow)
        yield trace(
            trace_id, whole, *calls,
            p1={"serviceName": "web", "tags": [{"key": "host.name", "type": "string", "value": "a"}]},
            p2={"serviceName": "stock", "tags": [{"key": "host.name", "type": "string", "value": "b"}]},
        )  # fmt: skip


@dataclass
class Read:
    """What a reader put out."""

    batch: Batch = field(default_factory=Batch)
    problems: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    rejected: int = 0
    left_out: int = 0


def read(reader: Reader, path: Path, begin: Place | None = None) -> Read:
    """Everything from ``begin`` on."""
    found = Read()
    gathered = Gathered(found.problems.append)
    found.places = list(reader(path, begin or Place(), gathered))
    found.batch, found.rejected, found.left_out = gathered.take(), gathered.rejected, gathered.left_out
    return found
