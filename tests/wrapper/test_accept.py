"""The time a request lies in the kernel before its handler begins: real sockets, a real server of one thread."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
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
    ACCOUNT_REASON,
    FIRST_REQUEST,
    SLICES,
)
from wrapper.conftest import Traced

MS = 1_000_000


@pytest.fixture
def port(traced: Traced) -> Iterator[int]:
    accept.install()

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        with traced.tracer.start_as_current_span(environ["PATH_INFO"], kind=SpanKind.SERVER):
            time.sleep(0.3 if environ["PATH_INFO"] == "/slow" else 0)
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None: ...

    server = make_server("127.0.0.1", 0, app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def get(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Connection": "close"})
    connection.getresponse().read()
    connection.close()


def span(traced: Traced, name: str) -> ReadableSpan:
    deadline = time.monotonic() + 5
    while name not in traced.spans() and time.monotonic() < deadline:
        time.sleep(0.005)
    return traced.spans()[name]


def test_a_request_behind_a_slow_one_waited_for_its_thread(traced: Traced, port: int) -> None:
    """The second request waits for as long as the first keeps the only thread, starts when it came in, and says so."""
    slow = threading.Thread(target=get, args=(port, "/slow"))
    slow.start()
    time.sleep(0.05)
    sent = time.time_ns()
    get(port, "/queued")
    slow.join()
    first, queued = span(traced, "/slow"), span(traced, "/queued")
    figures = traced.figures("/queued")
    expected = (first.end_time or 0) - sent
    assert figures[ACCEPT_WAIT_NS] == pytest.approx(expected, abs=25 * MS)
    assert figures[ACCEPT_BUSY_NS] == pytest.approx(expected, abs=25 * MS)
    assert 0 <= figures[ACCEPT_RUNQUEUE_NS] <= figures[ACCEPT_WAIT_NS] - figures[ACCEPT_BUSY_NS]
    assert queued.start_time == pytest.approx(sent, abs=25 * MS)
    assert ACCOUNT_REASON not in figures
    assert figures[SLICES][0] >= figures[ACCEPT_WAIT_NS]


def test_an_idle_server_takes_a_request_at_once(traced: Traced, port: int) -> None:
    """Nothing waited: 0, and only the first request of the process is the first."""
    get(port, "/one")
    get(port, "/two")
    span(traced, "/two")
    assert traced.figures("/one")[ACCEPT_WAIT_NS] == traced.figures("/two")[ACCEPT_WAIT_NS] == 0
    assert traced.figures("/one")[FIRST_REQUEST] == 1
    assert FIRST_REQUEST not in traced.figures("/two")


def test_a_unix_socket_says_nothing() -> None:
    """Where the kernel has no TCP_INFO the arrival is unknown, and a note is used once."""
    left, right = socket.socketpair()
    with left, right:
        accept.note(left)
        assert accept.arrival() is None
        assert accept.arrival() is None
