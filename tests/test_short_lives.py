"""Many containers that live for 0.3 to 3 s each, with a real Docker Engine, agent and server: each has its account."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from live_server import serving

from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.demo import root
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.lives import TOTALS, Life
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from profiles import examples

pytestmark = [pytest.mark.docker, pytest.mark.alone, pytest.mark.timeout(600)]

MANY, AT_ONCE, ANSWERING, UNSEEN = examples(80, 200), 8, 8, 5

#: Lives for so long, of which it computes for so long; its last word is the CPU time it used.
LIVES = """
import sys, time
life, cpu = float(sys.argv[1]), float(sys.argv[2])
began = time.monotonic()
while time.process_time() < cpu: pass
time.sleep(max(0, life - (time.monotonic() - began)))
print(time.process_time_ns(), flush=True)
sys.exit(int(sys.argv[3]))
"""

#: Answers one request, which it asks itself, under the wrapper.
ANSWERS = """
import sys, threading, time, urllib.request, wsgiref.simple_server
import layerline
layerline.start()
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
def app(environ, start):
    until = time.process_time() + 0.05
    while time.process_time() < until: pass
    start("200 OK", [])
    return [b"done"]
server = wsgiref.simple_server.make_server("127.0.0.1", 0, OpenTelemetryMiddleware(app))
asking = threading.Thread(target=urllib.request.urlopen, args=(f"http://127.0.0.1:{server.server_port}/",))
asking.start()
server.handle_request()
asking.join()
print(time.process_time_ns(), flush=True)
sys.exit(int(sys.argv[3]))
"""

Run = Callable[..., Container]


@dataclass(frozen=True)
class Lived:
    """What is known of a container from itself."""

    exit_code: int
    used_ns: int
    answered: str | None
    """The service that answered a request."""


@pytest.fixture
def run(docker_engine: docker.DockerClient, tmp_path: Path) -> Iterator[Run]:  # noqa: F811 - that fixture
    """Makes a container of this machine's own Python. Nothing is pulled."""
    place = root.plan(root.interpreter_paths())
    name = f"layerline-short-{uuid.uuid4().hex[:8]}"
    docker_engine.api.import_image_from_data(root.archive(place, os.getuid(), os.getgid()), repository=name, tag="1")
    volumes = {str(path): {"bind": str(path), "mode": "ro"} for path in place.binds}
    made: list[Container] = []

    def create(script: str, *arguments: object, **environment: str) -> Container:
        container = docker_engine.containers.create(
            f"{name}:1",
            [sys.executable, "-c", script, *map(str, arguments)],
            volumes=volumes,
            network_mode="host",
            labels={"batch": name},
            environment={"HOME": "/tmp", **environment},  # noqa: S108 - inside the container
        )
        made.append(container)
        return container

    try:
        yield create
    finally:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda container: container.remove(force=True), made))
        docker_engine.images.remove(f"{name}:1")


def test_each_short_life_has_its_account(run: Run, tmp_path: Path) -> None:
    """Each of many has an entity with start, end, exit code and tags; its ranges hold what it used; who answered a
    request has a ledger; those that were never read are counted, and are not measured."""
    draw = random.Random(4)  # noqa: S311 - lives, not secrets
    correlator = Correlator.open(Settings(store=tmp_path / "store"))
    began_ns = time.time_ns()
    try:
        with serving(correlator, ServerSettings()) as url, watching(url) as agent:

            def live(number: int) -> tuple[str, Lived]:
                code, answers = number % 3, number < ANSWERING
                service = {"OTEL_SERVICE_NAME": f"short-{number}", "LAYERLINE_ENDPOINT": url} if answers else {}
                life_s = draw.uniform(0.3, 0.9) if number % 10 else draw.uniform(0.9, 3)
                cpu_s = draw.uniform(0.03, 0.2)
                container = run(ANSWERS if answers else LIVES, life_s, cpu_s, code, **service)
                container.start()
                container.wait()
                used_ns = int(container.logs(stderr=False).split()[-1])
                return str(container.id), Lived(code, used_ns, service.get("OTEL_SERVICE_NAME"))

            with ThreadPoolExecutor(AT_ONCE) as pool:
                lived = dict(pool.map(live, range(MANY)))
                agent.send_signal(signal.SIGSTOP)  # it learns of these when they are gone
                unseen = dict(pool.map(live, range(MANY, MANY + UNSEEN)))
                agent.send_signal(signal.SIGCONT)
            found = account(correlator, began_ns, lived | unseen)
            ledgers = {service: ledger(correlator, service) for life in lived.values() if (service := life.answered)}
    finally:
        correlator.close()

    assert found.keys() >= lived.keys() | unseen.keys()
    for container_id, life in (lived | unseen).items():
        entity = found[container_id]
        assert entity.started is not None, entity
        assert entity.ended is not None, entity
        assert entity.started < entity.ended
        assert (entity.exit_code, entity.runs) == (life.exit_code, 1)
        assert entity.image == entity.tags["container.label.batch"]
    for container_id in unseen:
        assert {total.evidence for total in found[container_id].totals.values()} == {"not measured"}
        assert {total.value for total in found[container_id].totals.values()} == {None}
    evidence = {name: [found[key].totals[name].evidence for key in lived] for name in TOTALS}
    print({name: {word: words.count(word) for word in words} for name, words in evidence.items()})
    for container_id, life in lived.items():
        cpu = found[container_id].totals["cpu.time"]
        if cpu.evidence != "not measured":
            assert cpu.low is not None
            # Its group is charged for the start and the end of its process too.
            assert cpu.low <= life.used_ns + 500_000_000, (container_id, cpu, life)
            assert cpu.high is None or life.used_ns <= cpu.high, (container_id, cpu, life)
    assert evidence["cpu.time"].count("not measured") < MANY / 10, "nearly all are read at least once"
    assert evidence["cpu.time"].count("measured") > MANY / 4, "many are read right after their end"
    for duration_ns, accounted_ns in ledgers.values():
        assert 0 < duration_ns == accounted_ns
    assert len(ledgers) == ANSWERING


class watching:
    """An agent of its own process that has looked around."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "layerline.command", "agent", "--endpoint", url],
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        assert self._process.stderr is not None
        assert "Docker" in self._process.stderr.readline()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.communicate()


def account(correlator: Correlator, began_ns: int, lived: dict[str, Lived]) -> dict[str, Life]:
    """The entities, when start and end of all are known and their last readings have come, or after a minute."""
    deadline = time.monotonic() + 60
    while True:
        found = {life.id: life for life in correlator.entities(began_ns, time.time_ns())}
        ended = [key for key in lived if key in found and found[key].started and found[key].ended]
        if len(ended) == len(lived) or time.monotonic() > deadline:
            return found
        time.sleep(1)


def ledger(correlator: Correlator, service: str) -> tuple[int, int]:
    """The duration of the one request of a service, and the sum of its ledger."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now_ns = time.time_ns()
        query = RequestQuery(now_ns - 600 * 10**9, now_ns, service=service, min_duration_ns=0)
        items = correlator.requests(query).items
        if items and (verdict := correlator.verdict(items[0].trace_id)) is not None:
            return verdict.duration_ns, sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns
        time.sleep(0.5)
    raise AssertionError(f"{service} has no ledger")
