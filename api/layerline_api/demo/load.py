"""The load generator: one client, one request at a time, and its own stopwatch.

It knows nothing of Layerline. Each request carries a ``traceparent`` of its own, as a proxy in front of the shop would
send it, so that what the client measured and what Layerline says can be put side by side, request by request.
"""

from __future__ import annotations

import http.client
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from layerline_api.demo.place import DemoError


@dataclass(frozen=True, slots=True)
class Response:
    """One request as the client saw it."""

    trace_id: str
    start_ns: int
    """Since 1970."""
    duration_ns: int


def send(
    url: str, count: int, pause_s: float, each: Callable[[Response], None] = lambda _: None
) -> tuple[Response, ...]:
    """Send ``count`` requests, one after the other, with a pause after each. DemoError if one fails."""
    where = urlsplit(url)
    path = f"{where.path or '/'}{'?' + where.query if where.query else ''}"
    responses = []
    for _ in range(count):
        responses.append(one(where.hostname or "127.0.0.1", where.port or 80, path))
        each(responses[-1])
        time.sleep(pause_s)
    return tuple(responses)


def one(host: str, port: int, path: str) -> Response:
    """One request on a connection of its own: from before it connects until the last byte has arrived."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "Connection": "close"}
    connection = http.client.HTTPConnection(host, port, timeout=60)
    start_ns, began = time.time_ns(), time.perf_counter_ns()
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as problem:
        raise DemoError(f"GET http://{host}:{port}{path} failed: {problem!r}") from problem
    finally:
        connection.close()
    if answer.status != 200:
        raise DemoError(f"GET http://{host}:{port}{path} was answered with {answer.status} {answer.reason}")
    return Response(trace_id, start_ns, time.perf_counter_ns() - began)


def median_ns(responses: Sequence[Response]) -> int:
    """The median duration."""
    return round(statistics.median(response.duration_ns for response in responses))
