"""``layerline.start()``: the wrapper from within an app."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from layerline.attributes import ACCOUNT, BOOT_ID
from waiting import PATIENCE_S
from wrapper.conftest import Sink, clean_environment, layerline_run


def run_python(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(**variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_importing_it_loads_nothing(tmp_path: Path) -> None:
    """``import layerline`` costs nothing: OpenTelemetry is loaded when it is started."""
    done = run_python("import layerline, sys; print([m for m in sys.modules if 'opentelemetry' in m])", tmp_path)
    assert done.stdout == "[]\n"


def test_start_traces_and_may_be_called_again(tmp_path: Path, sink: Sink) -> None:
    """The first call sets everything up and instruments Flask, the second does nothing; arguments beat variables."""
    script = f"""
import layerline
layerline.start(endpoint={sink.url!r}, token="abc")
layerline.start(endpoint="http://127.0.0.1:1")
from flask import Flask
app = Flask("shop")
@app.get("/")
def index():
    return "ok"
assert app.test_client().get("/").status_code == 200
"""
    done = run_python(script, tmp_path, LAYERLINE_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [span.name for span in sink.spans] == ["GET /"]
    assert sink.named("GET /").attributes[ACCOUNT] == "thread"
    assert sink.headers[0]["authorization"] == "Bearer abc"


def test_an_app_keeps_its_own_provider(tmp_path: Path, sink: Sink) -> None:
    """An app that has set OpenTelemetry up keeps its exporters and its resource; ours is added, tracers follow."""
    script = f"""
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
provider = TracerProvider(resource=Resource.create({{"service.name": "theirs", "host.name": "mine"}}))
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
FlaskInstrumentor().instrument()
tracer = trace.get_tracer("app")
import layerline
layerline.start(endpoint={sink.url!r})
assert trace.get_tracer_provider() is provider
with tracer.start_as_current_span("span", attributes={{"url.query": "secret"}}):
    pass
"""
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    span = sink.named("span")
    assert span.resource["service.name"] == "theirs"
    assert span.resource["host.name"] == "mine"
    assert span.resource[BOOT_ID]
    assert span.attributes[ACCOUNT] == "thread"
    assert "url.query" not in span.attributes
    assert '"url.query": "secret"' in done.stdout


def test_start_under_run_does_nothing_twice(tmp_path: Path, sink: Sink) -> None:
    """An app that calls ``start()`` and is run with ``layerline run`` sends each span once."""
    from wrapper.conftest import layerline_run

    script = """
import layerline
layerline.start()
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("span"):
    pass
"""
    done = layerline_run(script, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(sink.spans) == 1


def test_start_never_raises(tmp_path: Path) -> None:
    """What fails inside is one line in the log, and the app runs on."""
    script = """
import layerline, layerline.wiring
layerline.wiring.describe = None
layerline.start()
layerline.start()
print("runs")
"""
    environ = clean_environment()
    environ.pop("PYTEST_VERSION", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "runs\n"
    assert len(done.stderr.splitlines()) == 1
    assert "start failed" in done.stderr


def test_a_value_that_cannot_be_text_harms_nobody(tmp_path: Path, sink: Sink) -> None:
    """An attribute whose ``__str__`` raises is left out, and its span is sent."""
    script = """
from opentelemetry import trace
class Odd:
    def __str__(self):
        raise RuntimeError("no")
with trace.get_tracer("app").start_as_current_span("span", attributes={"odd": Odd(), "list": [Odd()]}) as span:
    span.set_attribute("good", 1)
    span.add_event("happened", {"odd": Odd()})
"""
    done = layerline_run(script, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert sink.named("span").attributes["good"] == 1
