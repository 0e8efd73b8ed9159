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
from wrapper.conftest import Sink, clean_environment

MS = 1_000_000
GUNICORN = Path(sys.executable).with_name("gunicorn")
pytestmark = pytest.mark.skipif(not GUNICORN.exists(), reason="gunicorn is not installed")

APP = """
import time
from flask import Flask
app = Flask("shop")
@app.get("/<name>/<int:length>")
def busy(name, length):
    time.sleep(length / 1_000)
    return "ok"
"""


class Served:
    """One worker, and what it said of its requests."""

    def __init__(self, port: int, sink: Sink) -> None:
        self.port = port
        self.sink = sink

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> int:
        """Returns when it was sent (ns, UTC), after the answer has come."""
        mine = connection or self.connect()
        if mine.sock is None:
            mine.connect()
        sent = time.time_ns()
        mine.request("GET", path)
        assert mine.getresponse().read() == b"ok"
        if connection is None:
            mine.close()
        return sent

    def start(self, *paths: str) -> list[threading.Thread]:
        """Ask for these at once and do not wait."""
        threads = [threading.Thread(target=self.get, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        return threads

    def figures(self, path: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for span in self.sink.spans:
                if path in (span.attributes.get("http.target"), span.attributes.get("url.path")):
                    return span.attributes
            time.sleep(0.05)
        raise AssertionError(f"no span of {path} came, only {self.sink.spans}")


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
        served = Served(port, sink)
        served.get("/first/0")
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        process.stderr.close()
        process.wait(timeout=60)
    assert "Traceback" not in rest


def test_a_sync_worker_s_queue_is_seen(tmp_path: Path, sink: Sink) -> None:
    """A request behind one that keeps the only worker for 300 ms waited for that, and the worker was busy all along."""
    with gunicorn(tmp_path, sink) as served:
        (slow,) = served.start("/slow/300")
        time.sleep(0.1)
        served.get("/queued/0")
        slow.join()
        figures = served.figures("/queued/0")
        assert figures[ACCEPT_WAIT_NS] == pytest.approx(200 * MS, abs=40 * MS)
        assert figures[ACCEPT_BUSY_NS] == pytest.approx(figures[ACCEPT_WAIT_NS], abs=25 * MS)
        assert 0 <= figures[ACCEPT_RUNQUEUE_NS] <= figures[ACCEPT_WAIT_NS] - figures[ACCEPT_BUSY_NS]
        assert figures[ACCOUNT] == "thread"
        assert served.figures("/slow/300")[ACCEPT_WAIT_NS] == 0
        assert served.figures("/first/0")[FIRST_REQUEST] == 1
        assert FIRST_REQUEST not in figures


def test_a_threaded_worker_takes_as_many_as_it_has_threads(tmp_path: Path, sink: Sink) -> None:
    """With two threads the second does not wait; the third does, until one of them is done."""
    with gunicorn(tmp_path, sink, "-k", "gthread", "--threads", "2") as served:
        slow = served.start("/a/300", "/b/320")
        time.sleep(0.1)
        served.get("/third/0")
        for thread in slow:
            thread.join()
        assert served.figures("/a/300")[ACCEPT_WAIT_NS] == served.figures("/b/320")[ACCEPT_WAIT_NS] == 0
        third = served.figures("/third/0")
        assert third[ACCEPT_WAIT_NS] == pytest.approx(200 * MS, abs=40 * MS)
        assert third[ACCEPT_BUSY_NS] == pytest.approx(third[ACCEPT_WAIT_NS], abs=25 * MS)


def test_a_kept_connection_is_as_old_as_its_last_request(tmp_path: Path, sink: Sink) -> None:
    """What lay between two requests is no wait; a wait of the second is its own."""
    with gunicorn(tmp_path, sink, "-k", "gthread", "--threads", "2") as served:
        kept = served.connect()
        served.get("/kept/0", kept)
        own = kept.sock
        time.sleep(0.15)
        served.get("/again/0", kept)
        slow = served.start("/a/300", "/b/300")
        time.sleep(0.1)
        served.get("/queued/0", kept)
        assert kept.sock is own  # the connection was kept, or nothing is shown
        kept.close()
        for thread in slow:
            thread.join()
        assert served.figures("/kept/0")[ACCEPT_WAIT_NS] == served.figures("/again/0")[ACCEPT_WAIT_NS] == 0
        queued = served.figures("/queued/0")
        assert queued[ACCEPT_WAIT_NS] == pytest.approx(200 * MS, abs=40 * MS)
