"""Fork servers and pools: a child's spans are the child's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from layerline.attributes import ACCOUNT, CPU_NS, THREAD_ID
from waiting import PATIENCE_S
from wrapper.conftest import Sink, clean_environment, layerline_run

BURN = """
import os, time
from opentelemetry import trace
tracer = trace.get_tracer("app")
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
def work(name):
    with tracer.start_as_current_span(name):
        burn(0.02)
"""

FORK = (
    BURN
    + """
import sys
work("before")
trace.get_tracer_provider().force_flush()  # the parent has a connection open now
outer = tracer.start_span("outer")
pid = os.fork()
if pid == 0:
    outer.end()
    work("child")
    sys.exit(0)
os.waitpid(pid, 0)
work("after")
outer.end()
print(os.getpid(), pid)
"""
)

POOL = (
    BURN
    + """
import multiprocessing
if __name__ == "__main__":
    work("parent")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, ["pooled"] * 4)
        pool.close()
        pool.join()
"""
)

EXIT = (
    BURN
    + """
print("parent", flush=True)
if os.fork() == 0:
    work("job")
    os._exit(3)
if os.fork() == 0:
    os._exit(4)
print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)), flush=True)
os._exit(0)
"""
)

APP = """
from flask import Flask
app = Flask("shop")
@app.get("/")
def index():
    return "ok"
"""


def test_a_forked_child_s_spans_are_its_own(tmp_path: Path, sink: Sink) -> None:
    """They carry the child's pid and account; a span that was open across the fork is sent by the parent alone."""
    # From 3.12 on Python warns of any fork in a process with threads, and an exporter is one.
    done = layerline_run(FORK, tmp_path, LAYERLINE_ENDPOINT=sink.url, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    parent, child = (int(pid) for pid in done.stdout.split())
    pids = {(span.name, span.resource["process.pid"]) for span in sink.spans}
    assert {("before", parent), ("after", parent), ("child", child)} <= pids
    instances = {span.resource["process.pid"]: span.resource["service.instance.id"] for span in sink.spans}
    assert instances[parent] != instances[child]
    assert sink.named("child").attributes[ACCOUNT] == "thread"
    assert 20_000_000 <= sink.named("child").attributes[CPU_NS] <= sink.named("child").length_ns + 1_000_000
    assert sink.named("child").attributes[THREAD_ID] == child
    (outer,) = [span for span in sink.spans if span.name == "outer"]
    assert outer.attributes[ACCOUNT] == "thread"
    assert outer.resource["process.pid"] == parent
    assert sorted(span.name for span in sink.spans) == ["after", "before", "child", "outer"]


def test_a_multiprocessing_child_sends_its_spans_before_it_ends(tmp_path: Path, sink: Sink) -> None:
    """Such a child leaves without running exit handlers, and its spans arrive all the same."""
    done = layerline_run(POOL, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    pooled = [span for span in sink.spans if span.name == "pooled"]
    assert len(pooled) == 4
    assert sink.named("parent").resource["process.pid"] not in {span.resource["process.pid"] for span in pooled}


def test_a_child_that_leaves_at_once_sends_its_spans_before(tmp_path: Path, sink: Sink) -> None:
    """What ``os._exit`` ends in a forked child (a job of RQ's) arrives, and the exit codes stay what they were."""
    done = layerline_run(EXIT, tmp_path, LAYERLINE_ENDPOINT=sink.url, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["parent", "[3, 4]"]
    assert [span.name for span in sink.spans] == ["job"]


def test_a_child_that_leaves_at_once_does_not_wait_for_a_server_without_end(tmp_path: Path, sink: Sink) -> None:
    """Where the server takes the spans and does not answer, the child leaves all the same."""
    sink.gate.clear()
    done = layerline_run(
        EXIT,
        tmp_path,
        LAYERLINE_ENDPOINT=sink.url,
        LAYERLINE_EXIT_TIMEOUT="0.2",
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
    sink.gate.set()
    assert done.stdout.splitlines() == ["parent", "[3, 4]"]


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_gunicorn_s_workers_are_told_apart(tmp_path: Path, sink: Sink, preload: list[str]) -> None:
    """A prefork server's workers each send their own requests, measured, be the app loaded before the fork or after."""
    gunicorn = Path(sys.executable).with_name("gunicorn")
    if not gunicorn.exists():
        pytest.skip("gunicorn is not installed")
    (tmp_path / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "layerline.command", "run", "--", str(gunicorn), "-w", "2", "-b", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--no-control-socket", *preload, "shop:app"],
        cwd=tmp_path,
        env=clean_environment(LAYERLINE_ENDPOINT=sink.url),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        if "Listening at: " in line:
            url = line.partition("Listening at: ")[2].split()[0]
        if "Booting worker" in line:
            break
    seen: set[int] = set()
    end = time.monotonic() + PATIENCE_S
    while len(seen) < 2 and time.monotonic() < end:
        for _ in range(20):
            urllib.request.urlopen(url, timeout=PATIENCE_S).read()  # noqa: S310 - the app we started
        time.sleep(0.3)
        seen = {span.resource["process.pid"] for span in sink.spans}
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE_S) == 0
    assert "Traceback" not in rest
    assert len(seen) == 2
    assert process.pid not in seen
    assert {span.attributes[ACCOUNT] for span in sink.spans} == {"thread"}
    assert all(span.attributes[THREAD_ID] == span.resource["process.pid"] for span in sink.spans)
