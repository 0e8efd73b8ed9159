"""The time a request lies in the kernel before an event loop takes it: a real uvicorn on a thread of this process."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from layerline import accept
from layerline.account import Account
from layerline.attributes import (
    ACCEPT_BUSY_NS,
    ACCEPT_RUNQUEUE_NS,
    ACCEPT_WAIT_NS,
    FIRST_REQUEST,
    LOOP_HELD_BY,
    LOOP_QUEUED_NS,
)
from waiting import PATIENCE_S, eventually

uvicorn = pytest.importorskip("uvicorn")
MS = 1_000_000
#: The kernel's clock of arrivals steps with its tick, and is read a moment after or before others.
TICK = 25 * MS

BEGUN, LET_GO = threading.Event(), threading.Event()


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """``/hold/loop``: hold the loop until ``LET_GO``; ``/sleep/300``: leave it to others meanwhile."""
    _, what, length = scope["path"].split("/")
    if what == "hold":
        BEGUN.set()
        LET_GO.wait(PATIENCE_S)  # the very mistake that is to be seen
    else:
        await asyncio.sleep(int(length) / 1_000)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Served:
    """The server's port, and its entry spans by path."""

    def __init__(self, port: int, exporter: InMemorySpanExporter) -> None:
        self.port = port
        self.exporter = exporter
        self.sent: dict[str, tuple[int, int]] = {}
        """Between which times (ns, UTC) each was sent."""

    def get(self, *paths: str) -> None:
        """One after the other, on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.connect()
        for path in paths:
            from_ns = time.time_ns()
            connection.request("GET", path)
            self.sent[path] = (from_ns, time.time_ns())
            assert connection.getresponse().read() == b"ok"
        connection.close()

    def span(self, path: str) -> ReadableSpan:
        def ended() -> ReadableSpan | None:
            for span in self.exporter.get_finished_spans():
                if span.kind is SpanKind.SERVER and (span.attributes or {}).get("http.target") == path:
                    return span
            return None

        return eventually(ended, f"an entry span of {path}")  # type: ignore[return-value]

    def queue_behind(self, path: str) -> int:
        """Ask for it while ``/hold/loop`` holds the loop, for 100 ms at least; when that let go (ns, UTC)."""
        holding = threading.Thread(target=self.get, args=("/hold/loop",))
        holding.start()
        assert BEGUN.wait(PATIENCE_S)
        queued = threading.Thread(target=self.get, args=(path,))
        queued.start()
        eventually(lambda: path in self.sent)
        time.sleep(0.1)
        let_go = time.time_ns()
        LET_GO.set()
        holding.join()
        queued.join()
        return let_go

    def figures(self, path: str) -> dict[str, Any]:
        return dict(self.span(path).attributes or {})


@pytest.fixture(params=["h11", "httptools", "h11 uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    protocol, _, loop = request.param.partition(" ")
    for needed in (protocol, loop):
        if needed:
            pytest.importorskip(needed)
    accept.install()
    BEGUN.clear()
    LET_GO.clear()
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(Account())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = OpenTelemetryMiddleware(application, tracer_provider=provider)
    settings = uvicorn.Config(app, port=0, http=protocol, loop=loop or "asyncio", log_level="error", lifespan="off")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, "the server")
    yield Served(server.servers[0].sockets[0].getsockname()[1], exporter)
    server.should_exit = True
    thread.join()
    provider.shutdown()


def test_a_request_waits_while_another_holds_the_loop(served: Served) -> None:
    """It starts when it came in, and waited until the loop was let go; no thread was busy with a request before it."""
    let_go = served.queue_behind("/sleep/1")
    (from_ns, to_ns), span = served.sent["/sleep/1"], served.span("/sleep/1")
    figures = served.figures("/sleep/1")
    assert let_go - to_ns - TICK <= figures[ACCEPT_WAIT_NS] <= (span.end_time or 0) - from_ns + TICK
    assert figures[ACCEPT_BUSY_NS] == figures[ACCEPT_RUNQUEUE_NS] == 0
    assert from_ns - TICK <= (span.start_time or 0) <= to_ns + TICK


def test_a_loop_that_is_free_takes_a_request_at_once(served: Served) -> None:
    """A slow request that leaves the loop to others keeps nobody waiting; nor is a kept connection's age a wait."""
    sleeping = threading.Thread(target=served.get, args=("/sleep/200",))
    sleeping.start()
    time.sleep(0.05)
    served.get("/sleep/30", "/sleep/31", "/sleep/32")
    sleeping.join()
    paths = ["/sleep/200", "/sleep/30", "/sleep/31", "/sleep/32"]
    assert all((served.span(path).start_time or 0) >= served.sent[path][0] - TICK for path in paths)
    assert all(ACCEPT_WAIT_NS in served.figures(path) for path in paths)
    assert all(served.figures(path)[FIRST_REQUEST] == 1 for path in paths)  # each is an operation of its own


@pytest.fixture
def seen() -> Iterator[None]:
    """The steps of the loop's tasks are seen."""
    tasks = pytest.importorskip("layerline.tasks")
    tasks.install()
    yield
    tasks.uninstall()


@pytest.mark.usefixtures("seen")
def test_who_held_the_loop_is_named(served: Served) -> None:
    """Where the loop's tasks are seen: the wait is the holder's step, and it is named."""
    let_go = served.queue_behind("/sleep/1")
    figures = served.figures("/sleep/1")
    assert let_go - served.sent["/sleep/1"][1] - TICK <= figures[LOOP_QUEUED_NS] <= figures[ACCEPT_WAIT_NS]
    assert "RequestResponseCycle.run_asgi" in figures[LOOP_HELD_BY]
    assert figures[ACCEPT_BUSY_NS] == 0


def test_a_note_is_for_its_own_task_and_used_once() -> None:
    """A task's children and its thread find nothing of it once it is used, nor do other tasks at any time."""

    async def other() -> int | None:
        return accept.arrival()

    async def noting(client: Any) -> tuple[int | None, ...]:
        accept.note_task(client)
        elsewhere = asyncio.get_running_loop().create_task(other(), context=empty.copy())
        return await elsewhere, accept.arrival(), accept.arrival(), await asyncio.create_task(other())

    empty = contextvars.Context()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        found = asyncio.run(noting(client))
    assert [each is None for each in found] == [True, False, True, True]
