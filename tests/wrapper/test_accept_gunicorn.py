"""The time a request lies in the kernel before a worker of gunicorn's takes it: real workers in their own processes."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerline.attributes import ACCEPT_BUSY_NS, ACCEPT_RUNQUEUE_NS, ACCEPT_WAIT_NS, ACCOUNT, FIRST_REQUEST
from waiting import PATIENCE_S, eventually
from wrapper.conftest import Received, Sink, clean_environment

MS = 1_000_000
GUNICORN = Path(sys.executable).with_name("gunicorn")
pytestmark = pytest.mark.skipif(not GUNICORN.exists(), reason="gunicorn is not installed")

#: The kernel's clock of arrivals steps with its tick, and is read a moment after or before others.
TICK = 25 * MS

APP = """
import time
from pathlib import Path
from flask import Flask
app = Flask("shop")
@app.get("/<name>")
def index(name):
    return "ok"
@app.get("/hold/<name>")
def hold(name):
    Path(f"begun-{name}").touch()
    while not Path("let-go").exists():
        time.sleep(0.005)
    return "ok"
"""


class Served:
    """One worker, and what it said of its requests."""

    def __init__(self, port: int, sink: Sink, folder: Path) -> None:
        self.port = port
        self.sink = sink
        self.folder = folder
        self.sent: dict[str, tuple[int, int]] = {}
        """Between which times (ns, UTC) each was sent."""

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> None:
        """Ask and wait for the answer."""
        mine = connection or self.connect()
        if mine.sock is None:
            mine.connect()
        from_ns = time.time_ns()
        mine.request("GET", path)
        self.sent[path] = (from_ns, time.time_ns())
        assert mine.getresponse().read() == b"ok"
        if connection is None:
            mine.close()

    @contextlib.contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """Each of these requests keeps a thread, from before the block until 100 ms after it."""
        threads = [threading.Thread(target=self.get, args=(f"/hold/{name}",)) for name in names]
        for thread in threads:
            thread.start()
        for name in names:
            eventually((self.folder / f"begun-{name}").exists, f"request {name}")
        yield
        time.sleep(0.1)
        (self.folder / "let-go").touch()
        for thread in threads:
            thread.join()

    def queue(self, path: str, connection: http.client.HTTPConnection | None = None) -> threading.Thread:
        """Ask, and do not wait for the answer."""
        thread = threading.Thread(target=self.get, args=(path, connection))
        thread.start()
        eventually(lambda: path in self.sent)
        return thread

    def span(self, path: str) -> Received:
        def came() -> Received | None:
            for span in self.sink.spans:
                if path in (span.attributes.get("http.target"), span.attributes.get("url.path")):
                    return span
            return None

        return eventually(came, f"a span of {path}")  # type: ignore[return-value]

    def figures(self, path: str) -> dict[str, Any]:
        return self.span(path).attributes

    def assert_not_older(self, *paths: str) -> None:
        """None of them says that it waited since before it was sent."""
        for path in paths:
            assert ACCEPT_WAIT_NS in self.figures(path)
            assert self.span(path).start_ns >= self.sent[path][0] - TICK

    def assert_waited(self, path: str, *let_go: int) -> None:
        """It waited from when it was sent until one of these moments at least, while its thread was busy."""
        from_ns, to_ns = self.sent[path]
        figures = self.figures(path)
        assert min(let_go) - to_ns - TICK <= figures[ACCEPT_WAIT_NS] <= self.span(path).end_ns - from_ns + TICK
        assert min(let_go) - to_ns - TICK <= figures[ACCEPT_BUSY_NS] <= max(let_go) - from_ns + TICK


@contextlib.contextmanager
def gunicorn(folder: Path, sink: Sink, *options: str) -> Iterator[Served]:
    """``layerline run -- gunicorn`` with one worker."""
    (folder / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "layerline.command", "run", "--", str(GUNICORN), "-w", "1", "-b", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--no-control-socket", *options, "shop:app"],
        cwd=folder,
        env=clean_environment(LAYERLINE_ENDPOINT=sink.url),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        port = 0
        for line in process.stderr:
            if "Listening at: " in line:
                port = int(line.partition("Listening at: ")[2].split()[0].rpartition(":")[2])
            if "Booting worker" in line:
                break
        served = Served(port, sink, folder)
        served.get("/first")
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        process.stderr.close()
        process.wait(timeout=PATIENCE_S)
    assert "Traceback" not in rest


def test_a_sync_worker_s_queue_is_seen(tmp_path: Path, sink: Sink) -> None:
    """A request behind one that keeps the only worker waited for that, and the worker was busy all along."""
    with gunicorn(tmp_path, sink) as served:
        with served.held("slow"):
            queued = served.queue("/queued")
        queued.join()
        served.assert_waited("/queued", served.span("/hold/slow").end_ns)
        figures = served.figures("/queued")
        assert 0 <= figures[ACCEPT_RUNQUEUE_NS] <= figures[ACCEPT_WAIT_NS] - figures[ACCEPT_BUSY_NS]
        assert figures[ACCOUNT] == "thread"
        served.assert_not_older("/hold/slow")
        assert served.figures("/first")[FIRST_REQUEST] == 1
        assert FIRST_REQUEST not in figures


def test_a_threaded_worker_takes_as_many_as_it_has_threads(tmp_path: Path, sink: Sink) -> None:
    """With two threads the second does not wait; the third does, until one of them is done."""
    with gunicorn(tmp_path, sink, "-k", "gthread", "--threads", "2") as served:
        with served.held("a", "b"):
            third = served.queue("/third")
        third.join()
        served.assert_not_older("/hold/a", "/hold/b")
        served.assert_waited("/third", served.span("/hold/a").end_ns, served.span("/hold/b").end_ns)


def test_a_kept_connection_is_as_old_as_its_last_request(tmp_path: Path, sink: Sink) -> None:
    """What lay between two requests is no wait; a wait of the second is its own."""
    with gunicorn(tmp_path, sink, "-k", "gthread", "--threads", "2") as served:
        kept = served.connect()
        served.get("/kept", kept)
        own = kept.sock
        time.sleep(0.15)
        served.get("/again", kept)
        with served.held("a", "b"):
            queued = served.queue("/queued", kept)
        queued.join()
        assert kept.sock is own  # the connection was kept, or nothing is shown
        kept.close()
        served.assert_not_older("/kept", "/again")
        served.assert_waited("/queued", served.span("/hold/a").end_ns, served.span("/hold/b").end_ns)
