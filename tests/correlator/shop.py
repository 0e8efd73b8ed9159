"""A shop drawn on paper for the tests of incidents: web asks stock, stock asks prices; noise, faults at known times.

``web GET /cart`` → ``stock GET /stock`` → ``prices:8000`` (which sends no spans). The noise has heavy tails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spans import a_while_ago, batch, resource, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.store.model import EventRow, ResourceRow, SpanRow, resource_key

S = 10**9
Drawn = dict[str, Any]
Rows = list[tuple[ResourceRow, SpanRow]]


@dataclass
class Request:
    """One cart, in milliseconds, before it is drawn."""

    web_cpu: float
    stock_cpu: float
    prices: float
    throttled: float = 0.0  # stock waits for its quota
    contended: float = 0.0  # stock waits behind others
    written: float = 0.0  # stock waits for its disk
    status: int = 0
    web: Drawn = field(default_factory=dict)  # more of web's span
    stock: Drawn = field(default_factory=dict)
    web_attributes: dict[str, str] = field(default_factory=dict)
    web_version: str | None = None


Fault = Callable[[Request, random.Random], None]


@dataclass(frozen=True)
class During:
    """A fault and when, in seconds from the shop's opening."""

    from_s: float
    to_s: float
    fault: Fault


def healthy(draw: random.Random) -> Request:
    """A few tens of milliseconds, now and then a few hundred: log-normal tails and rare pauses."""
    pause = draw.uniform(100, 400) if draw.random() < 0.01 else 0.0
    return Request(
        web_cpu=5 * draw.lognormvariate(0, 0.4),
        stock_cpu=10 * draw.lognormvariate(0, 0.4),
        prices=15 * draw.lognormvariate(0, 0.6) + pause,
    )


def throttled(request: Request, draw: random.Random) -> None:
    """Stock's quota binds."""
    request.throttled = draw.uniform(150, 350)


def slow_prices(request: Request, draw: random.Random) -> None:
    """Prices takes a quarter of a second."""
    request.prices += draw.uniform(230, 270)


def crowded_out(request: Request, draw: random.Random) -> None:
    """Somebody else uses stock's CPUs."""
    request.contended = draw.uniform(150, 350)


def slow_code(request: Request, draw: random.Random) -> None:
    """Web computes."""
    request.web_cpu += draw.uniform(200, 260)


def failing(request: Request, draw: random.Random) -> None:
    """Half of the carts fail, none is slow."""
    request.status = 2 if draw.random() < 0.5 else 0


def drawn(request: Request, number: int, at_ns: int) -> Rows:
    """The four spans of one cart."""
    web, stock, wait = request.web_cpu, request.stock_cpu, request.throttled + request.contended
    written = request.written
    inner = stock + wait + written + request.prices
    end = web + inner + 2
    trace_id = f"{number:032x}"
    spans: list[Drawn] = [
        {
            "id": f"w{number}",
            "kind": "server",
            "name": "GET /cart",
            "container": "web-1",
            "ms": [0, end],
            "slices": [[0, web / 2, web / 2, 0], [end - web / 2, web / 2, web / 2, 0]],
            "cpu": web,
            "throttled": 0,
            "usage": web,
            "runnable": web,
            "attributes": {"http.request.method": "GET", "http.route": "/cart"} | request.web_attributes,
        }
        | request.web,
        {
            "id": f"c{number}",
            "parent": f"w{number}",
            "kind": "client",
            "name": "GET",
            "container": request.web.get("container", "web-1"),
            "pid": request.web.get("pid"),
            "ms": [web / 2, end - web / 2],
            "slices": [[0, end - web, 0, 0]],
            "cpu": 0,
            "switches": 2,
        },
        {
            "id": f"s{number}",
            "parent": f"c{number}",
            "kind": "server",
            "name": "GET /stock",
            "service": "stock",
            "container": "stock-1",
            "ms": [web / 2 + 1, web / 2 + 1 + inner],
            "slices": [[0, stock + wait + written, stock, wait]],
            "cpu": stock,
            "wait": wait,
            "throttled": request.throttled,
            "usage": stock,
            "runnable": stock + wait,
        }
        | ({"blkio": written, "blocks_written": round(written), "switches": 40} if written else {})
        | request.stock,
        {
            "id": f"p{number}",
            "parent": f"s{number}",
            "kind": "client",
            "name": "GET",
            "service": "stock",
            "container": request.stock.get("container", "stock-1"),
            "ms": [web / 2 + 1 + stock + wait + written, web / 2 + 1 + inner],
            "slices": [[0, request.prices, 0, 0]],
            "cpu": 0,
            "switches": 2,
            "attributes": {"server.address": "prices", "server.port": "8000"},
        },
    ]
    rows = [span_row(span, trace_id, at_ns) for span in spans]
    if request.web_version is not None:
        rows = [tagged(row, {"service.version": request.web_version}) if row[0] == rows[0][0] else row for row in rows]
    if request.status:
        rows[0] = (rows[0][0], rows[0][1]._replace(status=request.status))
    return rows


def tagged(row: tuple[ResourceRow, SpanRow], attributes: dict[str, str]) -> tuple[ResourceRow, SpanRow]:
    """The span from a process with more attributes."""
    more = row[0].attributes | attributes
    return ResourceRow(resource_key(more), more), row[1]._replace(resource=resource_key(more))


def described(container: str, **attributes: str) -> ResourceRow:
    """What the agent says of a container besides its name; ``image_name`` stands for ``container.image.name``."""
    told = resource(None, container).attributes | {
        f"container.{key.replace('_', '.')}": value for key, value in attributes.items()
    }
    return ResourceRow(resource_key(told), told)


def happened(container: str, name: str, at_ns: int) -> tuple[ResourceRow, EventRow]:
    """An event of a container."""
    owner = resource(None, container)
    return owner, EventRow(owner.resource, at_ns, name, f"container {container}: {name.partition('.')[2]}", {})


def carts(
    zero_ns: int,
    seconds: float,
    *faults: During,
    rate: float = 4.0,
    seed: int = 1,
    change: Callable[[Request, float, random.Random], None] = lambda request, at_s, draw: None,
) -> Iterator[Rows]:
    """All carts in order of time, ``rate`` a second at random moments."""
    draw = random.Random(seed)  # noqa: S311 - a reproducible test
    at_s, number = draw.expovariate(rate), 0
    while at_s < seconds:
        number += 1
        request = healthy(draw)
        for one in faults:
            if one.from_s <= at_s < one.to_s:
                one.fault(request, draw)
        change(request, at_s, draw)
        yield drawn(request, number, zero_ns + round(at_s * S))
        at_s += draw.expovariate(rate)


def serve(correlator: Correlator, requests: Iterator[Rows], *more: Any) -> None:
    """Send them as the wrapper would, a few hundred at a time, with what the agent reports, and look for incidents.

    Nobody looks before all of it is worked out: how far the correlator has come by then depends on the machine.
    """
    waiting: Rows = []
    with correlator._watch._lock:
        for rows in requests:
            waiting += rows
            if len(waiting) >= 2_000:
                correlator.append(batch(waiting))
                waiting = []
        correlator.append(batch(waiting, *more))
        while correlator._pass():
            pass
    correlator.look_for_incidents()


def found(correlator: Correlator) -> list[dict[str, Any]]:
    """All incidents, the oldest first, whole."""
    now_ns, day_ns = a_while_ago(0), 86400 * S
    items = correlator.incidents.list(IncidentQuery(now_ns - 2 * day_ns, now_ns + day_ns)).items
    documents = [correlator.incidents.one(item["id"]) for item in reversed(items)]
    return [document for document in documents if document is not None]


def seconds(text: str) -> float:
    """A time of the API in seconds since 1970."""
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def second(incident: dict[str, Any], which: str, zero_ns: int) -> float:
    """When it began ("start") or ended ("end"), in seconds from the shop's opening."""
    return seconds(incident[which]) - zero_ns / S
