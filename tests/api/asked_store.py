"""A store with ten minutes of a shop of which one container was held back by its CPU limit in the last five."""

from __future__ import annotations

from pathlib import Path

from spans import batch, event_row, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import SpanDetails

#: 2026-11-23T10:00:00Z, when the shop opens, when the limit is set, and when it closes.
OPEN_NS = 1_795_428_000_000_000_000
LIMITED_NS = OPEN_NS + 300 * 10**9
CLOSED_NS = OPEN_NS + 600 * 10**9
#: One request each so many seconds; those with an odd number of the first five minutes' last failed.
EVERY_S = 5
REQUESTS = 600 // EVERY_S
SLOW = REQUESTS // 2
FAILED = 6
REASON = SpanDetails(status_message="no stock")


def trace_id(number: int) -> str:
    """That of the request of this number."""
    return f"{number + 1:032x}"


def shop(folder: Path) -> Correlator:
    """``web`` is asked for ``GET /cart``, and asks ``stock``; all is worked out."""
    opened = Correlator.open(Settings(store=folder, group_ns=1_000_000, retain_ns=2**62))
    spans = []
    for number in range(REQUESTS):
        zero_ns = OPEN_NS + number * EVERY_S * 10**9
        limited = zero_ns >= LIMITED_NS
        late = 300 if limited else 0
        drawn = [
            {
                "id": "cart",
                "kind": "server",
                "name": "GET /cart",
                "ms": [0, 60 + late],
                "cpu": 10,
                "container": "web-1",
                "attributes": {"http.response.status_code": "500" if number < FAILED else "200", "user.tier": "gold"},
            },
            {"id": "call", "parent": "cart", "kind": "client", "ms": [5, 55 + late], "cpu": 1, "container": "web-1"},
            {
                "id": "stock",
                "parent": "call",
                "kind": "server",
                "name": "GET /stock",
                "service": "stock",
                "ms": [6, 54 + late],
                "cpu": 44,
                "wait": late,
                "throttled": late,
                "usage": 44,
                "runnable": 44 + late,
                "container": "stock-1",
            },
        ]
        for one in drawn:
            owner, row = span_row(one, trace_id(number), zero_ns)
            failed = number < FAILED and one["id"] == "cart"
            spans.append((owner, row._replace(status=2, details=REASON) if failed else row))
    seconds = range(0, 600, 5)
    at = [second * 1000 for second in seconds]
    readings = [
        {"signal": "container.cpu.throttled", "container": "stock-1", "at": at,
         "values": [max(0, second - 300) / 5 * 300 for second in seconds]},
        {"signal": "container.cpu.time", "container": "stock-1", "at": at, "values": [s * 20 for s in seconds]},
        {"signal": "container.cpu.time", "container": "web-1", "at": at, "values": [s * 10 for s in seconds]},
        {"signal": "container.cpu.limit", "container": "stock-1", "at": at[60:], "values": [0.1] * 60},
        {"signal": "container.memory.working_set", "container": "web-1", "at": at, "values": [2**26 for _ in seconds]},
        {"signal": "system.memory.available", "at": at, "values": [2**33 for _ in seconds]},
    ]  # fmt: skip
    opened.append(batch(spans[: len(spans) // 2]))
    opened.look_for_incidents()  # what is usual is known before it gets slow
    opened.append(
        batch(
            spans[len(spans) // 2 :],
            [series_rows(one, OPEN_NS) for one in readings],
            [event_row({"name": "container.update", "container": "stock-1", "at": 299_000}, OPEN_NS)],
        )
    )
    opened.look_for_incidents()
    return opened
