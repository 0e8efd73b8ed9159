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

uvicorn = pytest.importorskip("uvicorn")
MS = 1_000_000


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """``/hold/300``: hold the loop for that many milliseconds; ``/sleep/300``: leave it to others meanwhile."""
    _, what, length = scope["path"].split("/")
    if what == "hold":
        time.sleep(int(length) / 1_000)  # the very mistake that is to be seen
    else:
        await asyncio.sleep(int(length) / 1_000)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Served:
    """The server's port, and its entry spans by path."""

    def __init__(self, port: int, exporter: InMemorySpanExporter) -> None:
        self.port = port
        self.exporter = exporter

    def get(self, *paths: str) -> None:
        """One after the other, on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for path in paths:
            connection.request("GET", path)
            assert connection.getresponse().read() == b"ok"
        connection.close()

    def span(self, path: str) -> ReadableSpan:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for span in self.exporter.get_finished_spans():
                if span.kind is SpanKind.SERVER and (span.attributes or {}).get("http.target") == path:
                    return span
            time.sleep(0.005)
        raise AssertionError(f"no entry span of {path}, only {self.exporter.get_finished_spans()}")

    def figures(self, path: str) -> dict[str, Any]:
        return dict(self.span(path).attributes or {})


@pytest.fixture(params=["h11", "httptools", "h11 uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    protocol, _, loop = request.param.partition(" ")
    for needed in (protocol, loop):
        if needed:
            pytest.importorskip(needed)
    accept.install()
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(Account())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = OpenTelemetryMiddleware(application, tracer_provider=provider)
    settings = uvicorn.Config(app, port=0, http=protocol, loop=loop or "asyncio", log_level="error", lifespan="off")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    yield Served(server.servers[0].sockets[0].getsockname()[1], exporter)
    server.should_exit = True
    thread.join()
    provider.shutdown()


def test_a_request_waits_while_another_holds_the_loop(served: Served) -> None:
    """It starts when it came in, and waited until the loop was let go; no thread was busy with a request before it."""
    holding = threading.Thread(target=served.get, args=("/hold/300",))
    holding.start()
    time.sleep(0.05)
    sent = time.time_ns()
    served.get("/sleep/1")
    holding.join()
    expected = (served.span("/hold/300").end_time or 0) - sent
    figures = served.figures("/sleep/1")
    assert expected == pytest.approx(250 * MS, abs=40 * MS)
    assert figures[ACCEPT_WAIT_NS] == pytest.approx(expected, abs=25 * MS)
    assert figures[ACCEPT_BUSY_NS] == figures[ACCEPT_RUNQUEUE_NS] == 0
    assert served.span("/sleep/1").start_time == pytest.approx(sent, abs=25 * MS)


def test_a_loop_that_is_free_takes_a_request_at_once(served: Served) -> None:
    """A slow request that leaves the loop to others keeps nobody waiting; nor is a kept connection's age a wait."""
    sleeping = threading.Thread(target=served.get, args=("/sleep/200",))
    sleeping.start()
    time.sleep(0.05)
    served.get("/sleep/30", "/sleep/31", "/sleep/32")
    sleeping.join()
    paths = ["/sleep/200", "/sleep/30", "/sleep/31", "/sleep/32"]
    assert [served.figures(path)[ACCEPT_WAIT_NS] for path in paths] == [0] * 4
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
    holding = threading.Thread(target=served.get, args=("/hold/200",))
    holding.start()
    time.sleep(0.05)
    served.get("/sleep/1")
    holding.join()
    figures = served.figures("/sleep/1")
    assert figures[LOOP_QUEUED_NS] == pytest.approx(figures[ACCEPT_WAIT_NS], abs=25 * MS)
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
