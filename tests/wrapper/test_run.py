"""``layerline run``: the command becomes CMD, and CMD's spans arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerline.attributes import (
    ACCOUNT,
    BOOT_ID,
    CONTAINER_RUNNABLE_NS,
    CONTAINER_USAGE_NS,
    CPU_NS,
    SAMPLER,
    SLICES,
    VERSION,
)
from layerline.commands import run
from waiting import PATIENCE_S
from wrapper.conftest import Sink, clean_environment, layerline_run

pytestmark = pytest.mark.long

LAYERLINE = [sys.executable, "-m", "layerline.command", "run"]

SPANS = """
import os, time
from opentelemetry import trace
tracer = trace.get_tracer("app")
with tracer.start_as_current_span("request"):
    with tracer.start_as_current_span("busy"):
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
print(os.getpid())
"""

NAMES = """
import os, sys, time
from opentelemetry import trace
tracer = trace.get_tracer("app")

def names():
    with tracer.start_as_current_span("request"):
        for _ in range(200):
            tids = os.listdir("/proc/self/task")
            names = sorted(open(f"/proc/self/task/{tid}/comm").read().strip() for tid in tids)
            if sum(name.startswith("layerline-") for name in names) >= 2:
                break
            time.sleep(0.05)
    print(*[name for name in names if name.startswith("layerline-")], flush=True)

names()
if os.fork() == 0:
    names()
    os._exit(0)
os.wait()
"""

FLASK = """
import threading, urllib.request
from flask import Flask
from werkzeug.serving import make_server
app = Flask("shop")
@app.get("/cart")
def cart():
    return "ok"
server = make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever, daemon=True).start()
urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/cart?token=secret", timeout=60).read()
server.shutdown()
"""


def test_spans_arrive_with_their_account(tmp_path: Path, sink: Sink) -> None:
    """One word before the command, and its spans say which process they ran in and what its thread did."""
    everything = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ""}
    done = layerline_run(SPANS, tmp_path, LAYERLINE_ENDPOINT=sink.url, OTEL_SERVICE_NAME="shop", **everything)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    busy, request = sink.named("busy"), sink.named("request")
    assert busy.parent_id == request.span_id
    assert busy.attributes[ACCOUNT] == "thread"
    assert 50_000_000 <= busy.attributes[CPU_NS] <= busy.length_ns + 1_000_000
    assert len(busy.attributes[SLICES]) == 4
    assert request.attributes[CONTAINER_USAGE_NS] >= 50_000_000
    assert request.attributes[CONTAINER_RUNNABLE_NS] >= 0
    assert busy.resource["service.name"] == "shop"
    assert busy.resource["process.pid"] == int(done.stdout)
    assert busy.resource[BOOT_ID] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert busy.resource[VERSION]
    assert str(busy.resource[SAMPLER]).startswith("ParentBased{root:AlwaysOnSampler")
    assert sink.metrics


def test_the_wrapper_s_own_threads_have_names(tmp_path: Path, sink: Sink) -> None:
    """The threads that send and watch are told from the app's by their names in the kernel, after a fork too."""
    done = layerline_run(NAMES, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["layerline-send layerline-watch", "layerline-send layerline-watch"]


def test_a_flask_request_is_traced_and_its_query_is_not(tmp_path: Path, sink: Sink) -> None:
    """Flask is instrumented without a line of code; the query string stays in the app unless it is asked for."""
    done = layerline_run(FLASK, tmp_path, LAYERLINE_ENDPOINT=sink.url, LAYERLINE_TOKEN="abc")  # noqa: S106
    assert done.returncode == 0, done.stderr
    span = sink.named("GET /cart")
    assert span.attributes["http.route"] == "/cart"
    assert span.attributes[ACCOUNT] == "thread"
    assert b"secret" not in b"".join(body for _, _, body in sink.bodies)
    assert sink.headers[0]["authorization"] == "Bearer abc"


def test_a_query_is_captured_where_it_is_wanted(tmp_path: Path, sink: Sink) -> None:
    """``LAYERLINE_CAPTURE=url.query`` sends it."""
    layerline_run(FLASK, tmp_path, LAYERLINE_ENDPOINT=sink.url, LAYERLINE_CAPTURE="url.query")
    assert "token=secret" in str(sink.named("GET /cart").attributes)


def test_the_exporter_s_own_requests_are_no_spans(tmp_path: Path, sink: Sink) -> None:
    """Sending spans makes none."""
    ask = "import requests\nrequests.get(os.environ['LAYERLINE_ENDPOINT'] + '/x')\n"
    flush = "trace.get_tracer_provider().force_flush()\n"
    script = SPANS + ask + 2 * flush  # the first sends; what that made would be sent by the second
    layerline_run(script, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert sorted(span.name for span in sink.spans) == ["GET", "busy", "request"]


@pytest.mark.parametrize("dashes", [True, False])
def test_pid_and_exit_code_are_cmd_s_own(dashes: bool) -> None:
    """The command replaces itself: same pid, CMD's exit code; the two dashes are optional."""
    command = [
        *LAYERLINE,
        *(["--"] if dashes else []),
        sys.executable,
        "-c",
        "import os; print(os.getpid(), flush=True); os._exit(7)",
    ]
    process = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert int(out) == process.pid
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_cmd(number: signal.Signals) -> None:
    """A signal does to CMD what it would do without us."""
    script = "import time; print('up', flush=True); time.sleep(30)"
    process = subprocess.Popen(
        [*LAYERLINE, "--", sys.executable, "-c", script],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == -number


def test_a_program_that_is_not_python_is_run_and_said_so() -> None:
    """It runs all the same, and one line says that it is not traced."""
    done = subprocess.run(
        [*LAYERLINE, "--", "sh", "-c", "exit 3"], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "sh is not a Python program" in done.stderr


@pytest.mark.parametrize(("command", "says"), [([], "what should be run"), (["no-such-program"], "no-such-program")])
def test_what_cannot_be_run_is_said_in_one_line(
    command: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage errors end with exit code 2 and one clear line."""
    assert run.main(["--", *command]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("python3.12", b"\x7fELF...", True),
        ("pypy3", b"\x7fELF...", True),
        ("uwsgi", b"\x7fELF...", True),
        ("node", b"\x7fELF...", False),
        ("pythonista", b"\x7fELF...", False),
        ("gunicorn", b"#!/srv/app/.venv/bin/python3\nimport sys\n", True),
        ("flask", b"#!/usr/bin/env python3\n", True),
        ("flask", b"#!/usr/bin/env -S python3 -u\n", True),
        ("long", b"#!/bin/sh\n'''exec' \"/a very long path/bin/python3\" \"$0\" \"$@\"\n' '''\n", True),
        ("entrypoint", b"#!/bin/sh\nexec python app.py\n", False),
        ("empty", b"", False),
    ],
)
def test_what_is_python(tmp_path: Path, name: str, content: bytes, expected: bool) -> None:
    """An interpreter by its name, a script by its first line; a shell script that starts Python is a shell script."""
    file = tmp_path / name
    file.write_bytes(content)
    assert run.is_python(file) is expected


def test_the_environment_is_that_of_opentelemetry_instrument() -> None:
    """OpenTelemetry's folder first, then the current one, then what was there, and nothing twice."""
    first = run.environment({}, "/here")["PYTHONPATH"].split(os.pathsep)[0]
    assert Path(first, "sitecustomize.py").exists()
    again = run.environment({"PYTHONPATH": f"/a:{first}:/b", "OTEL_PYTHON_DISTRO": "other", "X": "1"}, "/here")
    assert again["PYTHONPATH"] == os.pathsep.join([first, "/here", "/a", "/b"])
    assert again["OTEL_PYTHON_DISTRO"] == again["OTEL_PYTHON_CONFIGURATOR"] == "layerline"
    assert again["X"] == "1"


def test_a_dead_server_does_not_hold_the_exit_up(tmp_path: Path) -> None:
    """The app's end waits for its last spans, but not for a server that is not there."""
    done = layerline_run(SPANS, tmp_path, LAYERLINE_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0


def test_opentelemetry_s_own_switches_work(tmp_path: Path, sink: Sink) -> None:
    """Sampler, resource and second destination are OpenTelemetry's own variables."""
    done = layerline_run(
        SPANS,
        tmp_path,
        LAYERLINE_ENDPOINT=sink.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"{sink.url}/theirs",
        OTEL_TRACES_EXPORTER="otlp,console",
        OTEL_RESOURCE_ATTRIBUTES="host.name=mine,team=shop",
    )
    assert done.returncode == 0, done.stderr
    assert {path for path, _, _ in sink.bodies} == {"/v1/traces", "/theirs/v1/traces", "/v1/metrics"}
    assert sink.named("busy").resource["host.name"] == "mine"
    assert sink.named("busy").resource["team"] == "shop"
    assert '"name": "busy"' in done.stdout
    sink.bodies.clear()
    layerline_run(SPANS, tmp_path, LAYERLINE_ENDPOINT=sink.url, OTEL_TRACES_SAMPLER="always_off")
    assert sink.spans == []
    layerline_run(SPANS, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTEL_TRACES_EXPORTER="none")
    assert sink.spans == []


OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
early = trace.get_tracer("instrumentation")
early.start_span("early").end()
provider = TracerProvider(resource=Resource.create({"service.name": "theirs"}))
trace.set_tracer_provider(provider)
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
assert trace.get_tracer_provider() is provider
with early.start_as_current_span("request"):
    with trace.get_tracer("app").start_as_current_span("child"):
        sum(range(1_000_000))
"""


def test_an_app_that_sets_its_own_provider_keeps_it(tmp_path: Path, sink: Sink) -> None:
    """Its exporters get its spans and those of instrumentations; so do we, each once, in one account."""
    done = layerline_run(OWN_PROVIDER, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(span.name for span in sink.spans) == ["child", "early", "request"]
    assert [done.stdout.count(f'"name": "{name}"') for name in ("early", "request", "child")] == [0, 1, 1]
    request, child = sink.named("request"), sink.named("child")
    assert request.resource["service.name"] == child.resource["service.name"] == "theirs"
    assert request.resource[BOOT_ID] == child.resource[BOOT_ID]
    assert child.attributes[CPU_NS] > 5 * request.attributes[CPU_NS]
    assert request.attributes[ACCOUNT] == child.attributes[ACCOUNT] == "thread"


def test_opentelemetry_instrument_with_our_distro(tmp_path: Path, sink: Sink) -> None:
    """Who starts with ``opentelemetry-instrument`` selects the distro by its variable and gets the same."""
    (tmp_path / "app.py").write_text(SPANS)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "app.py"],
        cwd=tmp_path,
        env=clean_environment(
            OTEL_PYTHON_DISTRO="layerline",
            OTEL_PYTHON_CONFIGURATOR="layerline",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sink.named("busy").attributes[ACCOUNT] == "thread"


def test_an_app_that_gevent_patches_ends_in_silence(tmp_path: Path, sink: Sink) -> None:
    """Where gevent takes the threads after ours began, spans arrive and no traceback is left at the end."""
    pytest.importorskip("gevent")
    script = """
from gevent import monkey
monkey.patch_all()
import gevent
from opentelemetry import trace
tracer = trace.get_tracer("app")
def work():
    with tracer.start_as_current_span("greenlet"):
        gevent.sleep(0.01)
gevent.joinall([gevent.spawn(work) for _ in range(20)])
"""
    done = layerline_run(script, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr, done.stderr
    assert len(sink.spans) == 20
