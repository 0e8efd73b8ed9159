"""A streamed response's span ends with its last byte, whatever server and framework made it."""

from __future__ import annotations

import http.client
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerline.attributes import ACCOUNT, ACCOUNT_REASON, CPU_NS, SLICES
from waiting import PATIENCE_S
from wrapper.conftest import Received, Sink
from wrapper.test_servers import running, until

MS = 1_000_000
SERVER = 2  # opentelemetry.proto.trace.v1: Span.SpanKind

BODY = """
import time
from opentelemetry import trace

tracer = trace.get_tracer("shop")


def pieces():
    for number in range(4):
        with tracer.start_as_current_span("piece"):
            time.sleep(0.05)
        yield f"{number}\\n".encode()


def breaks():
    yield b"0\\n"
    time.sleep(0.1)
    raise RuntimeError("with a secret in it")
"""

FLASK = f"""{BODY}
from flask import Flask, Response, send_file, stream_with_context

app = Flask("shop")


@app.get("/stream")
def stream():
    return Response(pieces())


@app.get("/context")
def context():
    return Response(stream_with_context(pieces()))


@app.get("/breaks")
def broken():
    return Response(breaks())


@app.get("/file")
def file():
    return send_file(__file__)


@app.get("/whole")
def whole():
    return "whole"
"""

PLAIN = f"""{BODY}
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware


def plain(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return pieces()


app = OpenTelemetryMiddleware(plain)
"""

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop"
MIDDLEWARE = []
"""

DJANGO = f"""{BODY}
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

urlpatterns = [
    path("stream", lambda request: StreamingHttpResponse(pieces())),
    path("file", lambda request: FileResponse(open(__file__, "rb"))),
    path("whole", lambda request: HttpResponse("whole")),
]
app = get_wsgi_application()
"""

ASGI = """
import asyncio, time
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware


async def plain(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(4):
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": f"{number}\\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    await asyncio.sleep(0.1)  # a background task: the response is complete
    with open("background-ended", "w") as file:
        file.write(str(time.time_ns()))


app = OpenTelemetryMiddleware(plain)
"""


FASTAPI = """
import time
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace

app = FastAPI()
tracer = trace.get_tracer("shop")


def pieces():
    for number in range(4):
        with tracer.start_as_current_span("piece"):
            begun = time.thread_time_ns()
            while time.thread_time_ns() - begun < 20_000_000:
                pass
        time.sleep(0.03)
        yield f"{number}\\n".encode()


@app.get("/plain")
def plain():
    return StreamingResponse(pieces())


@app.get("/async")
async def coroutine():
    return StreamingResponse(pieces())
"""


@contextmanager
def served(folder: Path, sink: Sink, app: str, *options: str, **variables: str) -> Iterator[str]:
    """Gunicorn with that app; its URL."""
    (folder / "shop.py").write_text(app)
    command = [str(Path(sys.executable).with_name("gunicorn")), "-b", "127.0.0.1:0", "--no-control-socket", *options]
    variables["LAYERLINE_ENDPOINT"] = sink.url
    with running([*command, "shop:app"], folder, "Booting worker", **variables) as (_, log):
        yield log.read_text().partition("Listening at: ")[2].split()[0]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - the app we started
        return str(answer.read().decode())


def requests(sink: Sink) -> list[Received]:
    return sorted((span for span in sink.spans if span.kind == SERVER), key=lambda span: span.start_ns)


def whole(sink: Sink, length_ms: int = 200) -> Received:
    """The one request, which lasted as long as its four pieces took, and whose pieces are its own."""
    (request,) = requests(sink)
    assert request.length_ns >= length_ms * MS
    pieces = [span for span in sink.spans if span.name == "piece"]
    assert {span.parent_id for span in pieces} <= {request.span_id}
    assert all(request.start_ns <= span.start_ns and span.end_ns <= request.end_ns for span in pieces)
    return request


@pytest.mark.parametrize("worker", ["sync", "gthread"])
@pytest.mark.parametrize("address", ["/stream", "/context"])
def test_a_stream_of_flask_s(tmp_path: Path, sink: Sink, address: str, worker: str) -> None:
    """Its span lasts until the last piece, is measured, and spans of the generator are its children."""
    with served(tmp_path, sink, FLASK, "-k", worker) as url:
        assert get(url + address).split() == ["0", "1", "2", "3"]
        until(lambda: len(sink.spans) == 5)
        request = whole(sink)
        assert request.attributes[ACCOUNT] == "thread"
        assert get(f"{url}/whole") == "whole"  # on the same thread or another, right after
        until(lambda: len(sink.spans) == 6)
    after = requests(sink)[-1]
    assert after.attributes[ACCOUNT] == "thread"
    assert after.attributes[CPU_NS] <= after.length_ns + MS
    assert after.trace_id != request.trace_id
    assert after.parent_id == b""


def test_a_stream_of_a_plain_wsgi_app(tmp_path: Path, sink: Sink) -> None:
    """OpenTelemetry's middleware ends the span after iterating; nothing of ours is in its way."""
    with served(tmp_path, sink, PLAIN) as url:
        assert get(url).split() == ["0", "1", "2", "3"]
        until(lambda: len(sink.spans) == 5)
    whole(sink)


def test_a_stream_of_django_s(tmp_path: Path, sink: Sink) -> None:
    """The same as Flask's, where Django and its instrumentation are installed."""
    pytest.importorskip("django")
    pytest.importorskip("opentelemetry.instrumentation.django")
    (tmp_path / "shop_settings.py").write_text(SETTINGS)
    with served(tmp_path, sink, DJANGO, DJANGO_SETTINGS_MODULE="shop_settings") as url:
        assert get(f"{url}/stream").split() == ["0", "1", "2", "3"]
        until(lambda: len(sink.spans) == 5)
        assert whole(sink).attributes[ACCOUNT] == "thread"
        assert get(f"{url}/whole") == "whole"
        assert "FileResponse" in get(f"{url}/file")
        until(lambda: len(sink.spans) == 7)
    assert {span.attributes[ACCOUNT] for span in requests(sink)} == {"thread"}
    assert len({span.trace_id for span in requests(sink)}) == 3


def test_a_stream_of_an_asgi_app(tmp_path: Path, sink: Sink) -> None:
    """The span ends with the last byte, not with what the app does afterwards."""
    uvicorn = pytest.importorskip("uvicorn").__name__
    (tmp_path / "shop.py").write_text(ASGI)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", uvicorn, "shop:app", "--port", str(port)]
    with running(command, tmp_path, "Uvicorn running", LAYERLINE_ENDPOINT=sink.url):
        assert get(f"http://127.0.0.1:{port}/").split() == ["0", "1", "2", "3"]
        until(lambda: len(requests(sink)) == 1)
    (request,) = requests(sink)
    assert request.length_ns >= 200 * MS
    assert request.end_ns < int((tmp_path / "background-ended").read_text())


@pytest.mark.parametrize("address", ["/plain", "/async"])
def test_a_stream_of_fastapi_s_that_threads_make(tmp_path: Path, sink: Sink, address: str) -> None:
    """A generator whose pieces worker threads make is one record, measured, from the first piece to the last."""
    pytest.importorskip("opentelemetry.instrumentation.fastapi")
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn").__name__
    (tmp_path / "shop.py").write_text(FASTAPI)
    command = [sys.executable, "-m", uvicorn, "shop:app", "--port", "0"]
    with running(command, tmp_path, "Uvicorn running", LAYERLINE_ENDPOINT=sink.url) as (_, log):
        url = log.read_text().partition("Uvicorn running on ")[2].split()[0]
        assert get(url + address).split() == ["0", "1", "2", "3"]
        until(lambda: len(requests(sink)) == 1 and any(span.name == "work pieces" for span in sink.spans))
    (request,) = requests(sink)
    (record,) = [span for span in sink.spans if span.name == "work pieces"]
    pieces = [span for span in sink.spans if span.name == "piece"]
    assert record.parent_id == request.span_id
    assert request.start_ns <= record.start_ns < record.end_ns <= request.end_ns
    assert record.length_ns >= 200 * MS
    assert [span.attributes[ACCOUNT] for span in (request, record)] == ["task", "thread"]
    assert {span.attributes[ACCOUNT_REASON] for span in pieces} == {"generator"}  # nobody knows that they do not last
    assert {span.parent_id for span in pieces} == {record.span_id}
    assert record.attributes[CPU_NS] >= 4 * 19 * MS
    slices = record.attributes[SLICES]
    assert sum(slices[2::4]) == record.attributes[CPU_NS] <= record.length_ns


def test_a_stream_that_breaks(tmp_path: Path, sink: Sink) -> None:
    """A generator that raises ends its span then, as an error, without the message."""
    with served(tmp_path, sink, FLASK) as url:
        with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
            get(f"{url}/breaks")
        until(lambda: len(requests(sink)) == 1)
        (tmp_path / "log").write_text("")  # gunicorn says what was raised
    (request,) = requests(sink)
    assert request.length_ns >= 100 * MS
    assert not [body for _, _, body in sink.bodies if b"with a secret" in body]


def test_a_stream_whose_client_leaves(tmp_path: Path, sink: Sink) -> None:
    """The server closes the response when its client has gone; the span ends then and the next request is its own."""
    with served(tmp_path, sink, FLASK) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: shop\r\n\r\n")
            client.recv(100)
        assert get(f"{url}/whole") == "whole"
        until(lambda: len(requests(sink)) == 2)
    streamed, after = requests(sink)
    assert {streamed.attributes[ACCOUNT], after.attributes[ACCOUNT]} == {"thread"}
    assert after.trace_id != streamed.trace_id


def test_a_file(tmp_path: Path, sink: Sink) -> None:
    """A file that the server sends by itself is a request that ends once it is sent."""
    with served(tmp_path, sink, FLASK) as url:
        assert "send_file" in get(f"{url}/file")
        until(lambda: len(requests(sink)) == 1)
    (request,) = requests(sink)
    assert request.attributes[ACCOUNT] == "thread"
    assert ACCOUNT_REASON not in request.attributes
