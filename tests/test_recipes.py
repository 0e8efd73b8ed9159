"""The apps of the documents, started as they say, leave requests that are measured."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from live_server import serving

from doc_pages import ROOT, blocks
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.long
SCRIPTS = Path(sys.executable).parent
#: By section: the page it is on, and the service that it says it is.
WEB_APPS = {
    "Flask": ("APPS", "flask"),
    "Django": ("APPS", "django"),
    "FastAPI": ("APPS", "fastapi"),
    "From code": ("APPS", "from-code"),
    "An app with its own TracerProvider": ("RECIPES", "own-provider"),
    "With Datadog (ddtrace)": ("RECIPES", "datadog"),
    "With Sentry (sentry-sdk)": ("RECIPES", "sentry"),
}


#: Nobody listens there.
NO_SENTRY = re.compile(r"SENTRY_DSN=\S+")


@dataclass
class Started:
    """A process of an example, in a group of its own."""

    process: subprocess.Popen[bytes]
    said: Path
    url: str = ""

    def end(self) -> str:
        """End it with all that it started; what it said."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        return self.said.read_text(errors="replace")


@dataclass
class Shop:
    """A server, and the examples that run beside it."""

    server: str
    folder: Path
    running: list[Started] = field(default_factory=list)

    def section(self, page: str, heading: str) -> tuple[Path, list[str]]:
        """Write the files of a section; its folder, and the commands that are not installations."""
        folder = self.folder / re.sub(r"\W+", "-", heading)
        folder.mkdir(exist_ok=True)
        commands = []
        for block in blocks(ROOT / f"docs/{page}.md"):
            if block.heading == heading and block.title:
                (folder / block.title).write_text(block.text)
            elif block.heading == heading and not block.not_run:
                commands += [one for one in block.commands if not one.startswith(("pip ", "python3 "))]
        assert commands, f"{page}.md: expected commands below {heading!r}"
        return folder, commands

    def start(self, folder: Path, script: str, **variables: str) -> Started:
        """Run lines of the documents in a shell, on a port of their own."""
        port = free_port()
        environment = {
            **os.environ,
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LAYERLINE_ENDPOINT": self.server,
            "LAYERLINE_SERVER": self.server,
            "LAYERLINE_HINTS": "off",
            "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port} --no-control-socket",
            "UVICORN_PORT": str(port),
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            **variables,
        }
        said = folder / f"said-{port}"
        with said.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", script], cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        started = Started(process, said, f"http://127.0.0.1:{port}")
        self.running.append(started)
        return started

    def spans(self, service: str, least: int = 1) -> list[dict[str, Any]]:
        """The spans of the traces of a service, once it has so many requests."""

        def found() -> list[dict[str, Any]]:
            asked = {"service": service, "since": "1h", "min_duration": "1us", "order": "start"}
            items = requests.get(f"{self.server}/api/v1/requests", params=asked, timeout=PATIENCE_S).json()["items"]
            return items if len(items) >= least else []

        traces = {item["trace_id"] for item in eventually(found, f"a request of {service}")}
        return [
            span
            for trace in sorted(traces)
            for span in requests.get(f"{self.server}/api/v1/traces/{trace}", timeout=PATIENCE_S).json()["spans"]
        ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def answer(started: Started) -> Any:
    """What the app says to a request for its cart, once it listens."""

    def ask() -> requests.Response | None:
        assert started.process.poll() is None, started.said.read_text(errors="replace")
        try:
            return requests.get(f"{started.url}/cart", timeout=PATIENCE_S)
        except requests.ConnectionError:
            return None

    asked = eventually(ask, "the app's answer")
    assert asked is not None
    assert asked.status_code == 200, started.said.read_text(errors="replace")
    return asked.json()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("recipes")
    correlator = Correlator.open(Settings(store=folder / "store", group_ns=1_000_000))
    with serving(correlator, ServerSettings()) as url:
        opened = Shop(url, folder)
        try:
            yield opened
        finally:
            for started in opened.running:
                started.end()
    correlator.close()


@pytest.fixture(scope="module")
def web_apps(shop: Shop) -> dict[str, Started]:
    """All web apps of the documents, started at once: most of a start is waiting for imports."""
    started = {}
    for heading, (page, _) in WEB_APPS.items():
        folder, commands = shop.section(page, heading)
        started[heading] = shop.start(folder, NO_SENTRY.sub("SENTRY_DSN=http://key@127.0.0.1:9/1", "\n".join(commands)))
    return started


@pytest.mark.parametrize("heading", WEB_APPS)
def test_a_web_app_of_the_documents_is_measured(shop: Shop, web_apps: dict[str, Started], heading: str) -> None:
    """Started as its section says, it answers, and its requests have an account of the thread or task that served."""
    _, service = WEB_APPS[heading]
    started = web_apps[heading]
    assert answer(started)["items"]
    spans = shop.spans(service)
    entry = [span for span in spans if span["kind"] == "server"]
    assert entry, spans
    assert {span["account"] for span in entry} <= {"thread", "task"}


def test_the_apps_own_provider_keeps_its_exporter(shop: Shop, web_apps: dict[str, Started]) -> None:
    """The app's console exporter prints the span that Layerline has too, under the app's own resource."""
    heading = "An app with its own TracerProvider"
    answer(web_apps[heading])
    names = {span["name"] for span in shop.spans("own-provider")}
    assert "count" in names
    eventually(lambda: '"name": "count"' in web_apps[heading].said.read_text(), "what the exporter prints")


def test_datadog_and_layerline_do_not_take_each_others_traces(shop: Shop, web_apps: dict[str, Started]) -> None:
    """Over two services there is one trace with both, and no second copy of it: ddtrace keeps to its own agent."""
    heading = "With Datadog (ddtrace)"
    folder, commands = shop.section("RECIPES", heading)
    answer(web_apps[heading])
    front = shop.start(
        folder, commands[0].replace("=datadog ", "=datadog-front "), NEXT=f"{web_apps[heading].url}/cart"
    )
    assert answer(front)["items"]
    # Both are full of what they had to send, then they end: what ddtrace would send has come by then.
    front.end()
    spans = shop.spans("datadog-front")
    assert sorted((span["service"], span["kind"]) for span in spans) == [
        ("datadog", "server"),
        ("datadog-front", "client"),
        ("datadog-front", "server"),
    ]
    assert "4318" not in front.said.read_text(errors="replace")


def test_sentrys_own_deliveries_are_no_traces(shop: Shop) -> None:
    """Ended, when Sentry has tried to send what it had, the app has left no request but those that it was asked."""
    folder, commands = shop.section("RECIPES", "With Sentry (sentry-sdk)")
    script = NO_SENTRY.sub("SENTRY_DSN=http://key@127.0.0.1:9/1", "\n".join(commands))
    app = shop.start(folder, script.replace("=sentry ", "=sentry-ended "))
    answer(app)
    app.end()
    assert {span["kind"] for span in shop.spans("sentry-ended")} == {"server"}


def test_celerys_tasks_are_requests(shop: Shop) -> None:
    """The worker's task is measured, and belongs to the trace of the program that sent it."""
    folder, commands = shop.section("APPS", "Celery")
    worker = shop.start(folder, "\n".join(commands[:-1]))
    sender = shop.start(folder, "mkdir -p queue control\n" + commands[-1])
    assert sender.process.wait(PATIENCE_S) == 0, sender.said.read_text()
    spans = shop.spans("celery")
    assert worker.process.poll() is None
    task = [span for span in spans if span["kind"] == "consumer"]
    assert task[0]["account"] == "thread"
    assert {span["service"] for span in spans} == {"celery", "sender"}


def test_a_relay_keeps_the_account(shop: Shop) -> None:
    """Spans that a relay receives, batches, compresses and sends on are judged as those that come directly."""
    folder, _ = shop.section("APPS", "Flask")
    (folder / "relay.py").write_text(
        textwrap.dedent(
            """
            import gzip, http.server, os, sys, urllib.request

            class Relay(http.server.BaseHTTPRequestHandler):
                def do_POST(self):
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    if self.headers.get("Content-Encoding") == "gzip":
                        body = gzip.decompress(body)
                    sent = urllib.request.Request(os.environ["TO"] + self.path, gzip.compress(body), {
                        "Content-Type": self.headers["Content-Type"], "Content-Encoding": "gzip"})
                    with urllib.request.urlopen(sent) as answer:
                        self.send_response(answer.status)
                        self.send_header("Content-Length", "0")
                        self.end_headers()

            http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Relay).serve_forever()
            """
        )
    )
    port = free_port()
    shop.start(folder, f"exec {sys.executable} relay.py {port}", TO=shop.server)
    eventually(lambda: listens(port), "the relay")
    app = shop.start(
        folder,
        "OTEL_SERVICE_NAME=relayed layerline run -- gunicorn flask_app:app",
        LAYERLINE_ENDPOINT=f"http://127.0.0.1:{port}",
    )
    answer(app)
    assert shop.spans("relayed")[0]["account"] == "thread"


def test_prometheus_pages_become_readings(shop: Shop) -> None:
    """The agent of the recipe reads a page of cAdvisor; its container has readings in the signals' own names."""
    container = "c0ffee" + "0" * 58
    _, commands = shop.section("RECIPES", "With Prometheus: cAdvisor and node_exporter")
    folder = shop.folder / "pages"
    (folder / "metrics").mkdir(parents=True)
    (folder / "metrics/index.html").write_text(
        "# TYPE container_memory_working_set_bytes gauge\n"
        f'container_memory_working_set_bytes{{id="/docker/{container}",name="stock"}} 5e+07\n'
    )
    pages = free_port()
    shop.start(folder, f"exec {sys.executable} -m http.server --bind 127.0.0.1 {pages}")
    eventually(lambda: listens(pages), "the page")
    line = re.sub(r"LAYERLINE_SCRAPE=\S+", f"LAYERLINE_SCRAPE=http://127.0.0.1:{pages}/metrics/", commands[0])
    agent = shop.start(folder, line, LAYERLINE_SPOOL="off", DOCKER_HOST=f"unix://{folder}/none.sock")

    def readings() -> list[Any]:
        asked = {"entity": f"container:{container}", "signal": "container.memory.working_set", "since": "15m"}
        found = requests.get(f"{shop.server}/api/v1/timeline", params=asked, timeout=PATIENCE_S).json()
        return [one for one in found.get("series", []) if one["name"].endswith("memory.working_set")]

    assert eventually(readings, "the container's readings")
    assert agent.process.poll() is None


def test_the_five_minutes(shop: Shop) -> None:
    """docs/START.md, line for line: server and agent, app, forty requests, and the verdict names the slow operation."""
    folder = shop.folder / "start"
    folder.mkdir()
    steps = {block.heading: block.commands for block in blocks(ROOT / "docs/START.md") if block.language == "sh"}
    (program,) = [block for block in blocks(ROOT / "docs/START.md") if block.title]
    (folder / program.title).write_text(program.text)
    up, run, ask, why = (steps[heading] for heading in sorted(steps)[1:5])  # "1. Install" and so on
    where = f"http://127.0.0.1:{free_port()}"
    names = {"LAYERLINE_SERVER": where, "LAYERLINE_ENDPOINT": where, "DOCKER_HOST": f"unix://{folder}/none.sock"}
    server = shop.start(
        folder, f"exec {up[0]} --listen {where.removeprefix('http://')} --store {folder}/store", **names
    )
    app = shop.start(folder, run[0].replace("--bind 127.0.0.1:8000 ", ""), **names)
    answer(app)
    asked = shop.start(folder, ask[0].replace("http://127.0.0.1:8000", app.url), **names)
    assert asked.process.wait(PATIENCE_S) == 0, asked.said.read_text()

    def verdict() -> str:
        assert server.process.poll() is None, server.said.read_text()
        done = shop.start(folder, why[0], **names)
        return done.said.read_text() if done.process.wait(PATIENCE_S) == 0 else ""

    said = eventually(verdict, "the verdict", every_s=0.5)
    assert "web  GET /cart" in said
    assert re.search(r"see one: layerline why [0-9a-f]{32}", said)
