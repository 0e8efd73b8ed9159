"""The time a request lies in the kernel before its handler begins: real sockets, a real server of one thread."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from werkzeug.serving import WSGIRequestHandler, make_server

from layerline import accept
from layerline.attributes import (
    ACCEPT_BUSY_NS,
    ACCEPT_RUNQUEUE_NS,
    ACCEPT_WAIT_NS,
    ACCOUNT,
    ACCOUNT_REASON,
    FIRST_REQUEST,
    SLICES,
)
from waiting import PATIENCE_S, eventually
from wrapper.conftest import Sink, Traced, layerline_run

MS = 1_000_000
#: The kernel's clock of arrivals steps with its tick, and is read a moment after or before others.
TICK = 25 * MS


@dataclass
class Held:
    """A request of ``/slow`` is held from ``begun`` until ``let_go``."""

    begun: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def held() -> Held:
    return Held()


@contextlib.contextmanager
def serve(traced: Traced, held: Held, host: str) -> Iterator[int]:
    """Werkzeug's server of one thread; gives its port."""
    accept.install()

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        with traced.tracer.start_as_current_span(environ["PATH_INFO"], kind=SpanKind.SERVER):
            if environ["PATH_INFO"] == "/slow":
                held.begun.set()
                held.let_go.wait(PATIENCE_S)
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None: ...

    server = make_server(host, 0, app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def port(traced: Traced, held: Held) -> Iterator[int]:
    with serve(traced, held, "127.0.0.1") as port:
        yield port


def get(port: int, path: str, unix: str = "", sent: list[int] | None = None) -> None:
    """``sent`` gets the times (ns, UTC) between which it was sent."""
    sent = [] if sent is None else sent
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    if unix:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(unix)
    if not unix:
        connection.connect()
    sent.append(time.time_ns())
    connection.request("GET", path, headers={"Connection": "close"})
    sent.append(time.time_ns())
    connection.getresponse().read()
    connection.close()


def span(traced: Traced, name: str) -> ReadableSpan:
    return eventually(lambda: traced.spans().get(name), f"a span {name}")  # type: ignore[return-value]


def queue_behind(held: Held, port: int, unix: str = "") -> list[int]:
    """Ask for ``/queued`` while ``/slow`` keeps the only thread, for 100 ms at least; when it was sent."""
    sent: list[int] = []
    slow = threading.Thread(target=get, args=(port, "/slow", unix))
    slow.start()
    assert held.begun.wait(PATIENCE_S)
    queued = threading.Thread(target=get, args=(port, "/queued", unix, sent))
    queued.start()
    eventually(lambda: len(sent) == 2)
    time.sleep(0.1)
    held.let_go.set()
    slow.join()
    queued.join()
    return sent


def test_a_request_behind_a_slow_one_waited_for_its_thread(traced: Traced, held: Held, port: int) -> None:
    """The second request waits for as long as the first keeps the only thread, starts when it came in, and says so."""
    from_ns, to_ns = queue_behind(held, port)
    first, queued = span(traced, "/slow"), span(traced, "/queued")
    figures = traced.figures("/queued")
    let_go = first.end_time or 0
    assert let_go - to_ns - TICK <= figures[ACCEPT_WAIT_NS] <= (queued.end_time or 0) - from_ns + TICK
    assert let_go - to_ns - TICK <= figures[ACCEPT_BUSY_NS] <= let_go - from_ns + TICK
    assert 0 <= figures[ACCEPT_RUNQUEUE_NS] <= figures[ACCEPT_WAIT_NS] - figures[ACCEPT_BUSY_NS]
    assert from_ns - TICK <= (queued.start_time or 0) <= to_ns + TICK
    assert ACCOUNT_REASON not in figures
    assert figures[SLICES][0] >= figures[ACCEPT_WAIT_NS]


def test_an_idle_server_takes_a_request_at_once(traced: Traced, port: int) -> None:
    """None waited since before it was sent, and of each operation only the first of the process is the first."""
    sent: list[list[int]] = [[], [], []]
    for path, times in zip(("/one", "/two", "/one"), sent, strict=True):
        get(port, path, sent=times)
    eventually(lambda: len(traced.exporter.get_finished_spans()) == 3)
    spans = [each for each in traced.exporter.get_finished_spans() if each.kind is SpanKind.SERVER]
    assert all((each.start_time or 0) >= times[0] - TICK for each, times in zip(spans, sent, strict=True))
    assert all(ACCEPT_WAIT_NS in (each.attributes or {}) for each in spans)
    assert [each.attributes.get(FIRST_REQUEST) for each in spans if each.attributes] == [1, 1, None]


def test_a_unix_socket_says_nothing(traced: Traced, held: Held, tmp_path: Path) -> None:
    """The kernel has no such figure of it: not 0 but absent, though the request waited; its span is measured."""
    path = f"{tmp_path}/server"
    with serve(traced, held, f"unix://{path}"):
        queue_behind(held, 0, path)
        span(traced, "/queued")
    figures = traced.figures("/queued")
    assert not {ACCEPT_WAIT_NS, ACCEPT_BUSY_NS, ACCEPT_RUNQUEUE_NS} & set(figures)
    assert figures[ACCOUNT] == "thread"
    assert traced.figures("/slow")[FIRST_REQUEST] == 1


def test_a_note_is_used_once_and_not_when_it_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that noted a socket and then opened no span must not lend it to what its thread does a second later."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        now = time.time_ns()
        monkeypatch.setattr(accept, "time_ns", lambda: now)
        accept.note(client)
        assert accept.arrival() is not None
        assert accept.arrival() is None
        for late_ms, known in ((900, True), (1_200, False), (-100, False)):
            accept.note(client)
            with monkeypatch.context() as patched:
                patched.setattr(accept, "time_ns", lambda late_ms=late_ms: now + late_ms * MS)
                assert (accept.arrival() is not None) is known
            assert accept.arrival() is None


FORK = """
import os
from opentelemetry import trace
from opentelemetry.trace import SpanKind
def serve(who):
    with trace.get_tracer("app").start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        span.set_attribute("who", who)
serve("parent's first")
pid = os.fork()
if pid == 0:
    serve("child's first")
    serve("child's second")
else:
    os.waitpid(pid, 0)
    serve("parent's second")
"""


def test_a_forked_process_has_a_first_request_of_its_own(tmp_path: Path, sink: Sink) -> None:
    """What a process does once, it does anew after a fork."""
    done = layerline_run(FORK, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    first = {span.attributes["who"] for span in sink.spans if span.attributes.get(FIRST_REQUEST) == 1}
    assert first == {"parent's first", "child's first"}
    assert {span.attributes["who"] for span in sink.spans} - first == {"parent's second", "child's second"}
