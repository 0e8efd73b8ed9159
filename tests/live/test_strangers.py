"""Spans of somebody else's SDK, readings of somebody else's collector, and nothing of ours on the machine.

A Node service with the OpenTelemetry SDK from npm; ``docker_stats`` and ``hostmetrics`` names from ``collector.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from benchmarks.lab.fault import Container, Variant
from benchmarks.lab.injectors import limits, neighbours
from benchmarks.lab.stage import Stage
from benchmarks.lab.subject import Subject
from benchmarks.lab.way import Way
from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.demo import engine, layout
from layerline_api.demo.ask import Ask
from layerline_api.demo.containers import Containers
from layerline_api.demo.load import Response, median_ns, send
from layerline_api.demo.processes import Processes
from layerline_api.demo.watching import Watching
from live.collector import Collector

pytestmark = [pytest.mark.docker, pytest.mark.alone]

THROTTLED = "container.cpu.throttling_data.throttled_time"
USUAL, FAULTY, PAUSE_S, FAULTY_PAUSE_S = 30, 5, 0.05, 0.25
#: The causes that nothing of this machine's readings can measure.
LIMITS = ("container.cpu_throttled", "container.io_throttled", "host.cpu_contended", "host.io_saturated")


@dataclass(frozen=True, slots=True)
class Slow:
    """A request with the trouble, and how long the kernel held its container back meanwhile."""

    response: Response
    throttled_ns: int


@dataclass(frozen=True, slots=True)
class Strangers:
    """A server that only strangers send to."""

    stage: Stage

    @contextmanager
    def collector(self, *enabled: str) -> Iterator[Collector]:
        """Somebody's Collector, with these metrics enabled beside its default ones."""
        watching = self.stage.watching
        headers = {"Authorization": f"Bearer {watching.token}"}
        with Collector(watching.url, headers, None, frozenset(enabled)) as collector:
            yield collector

    def answer(
        self, collector: Collector, subject: Subject, healthy: str, faulty: str, trouble: AbstractContextManager[None]
    ) -> Answer:
        """What is said of the middle one of some requests with the trouble, after enough without it.

        Everybody is read before and after each stretch: who was read for the first time after a request is not known
        to have risen in it.
        """
        collector.scrape()
        well = send(subject.url + healthy, USUAL, PAUSE_S)
        collector.scrape()
        slow: list[Slow] = []
        with trouble:
            collector.scrape()
            for _ in range(FAULTY):
                before_ns = throttled_ns(subject)
                (response,) = send(subject.url + faulty, 1, 0)
                slow.append(Slow(response, throttled_ns(subject) - before_ns))
                time.sleep(FAULTY_PAUSE_S)
                collector.scrape()
        judged = sorted(slow, key=lambda one: one.response.duration_ns)[FAULTY // 2]
        with Ask(self.stage.watching.url, self.stage.watching.token) as ask:
            ask.verdict(judged.response.trace_id, timeout_s=60)
        more_ns = judged.response.duration_ns - median_ns(well)
        return Answer(self.stage.watching, judged.response.trace_id, more_ns, judged.throttled_ns, subject)


def throttled_ns(subject: Subject) -> int:
    """How long its CPU limit has held the container back so far, as the Engine says it."""
    stats: Any = subject.stage.place.container(subject.name).stats(stream=False, one_shot=True)
    return int(stats["cpu_stats"]["throttling_data"]["throttled_time"])


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, what the client and the kernel measured, and about whom."""

    watching: Watching
    trace_id: str
    more_ns: int
    throttled_ns: int
    subject: Subject

    def body(self) -> dict[str, Any]:
        """The verdict as it is now; it adds up."""
        with Ask(self.watching.url, self.watching.token) as ask:
            body = ask.body(f"requests/{self.trace_id}")
        assert body is not None
        assert sum(part["lost_ns"] for part in body["parts"]) + body["unexplained_ns"] == body["duration_ns"]
        return body

    def suspects(self, entity_id: str | None, enable: str) -> None:
        """This one is suspected before the others of this test, nobody is charged, and one thing would decide.

        Whoever else is on the machine may rise meanwhile as well, the server that works this out among them.
        """
        body = self.once(lambda body: self._first(body).get("entity", {}).get("id") == entity_id)
        assert not body["conclusive"], body
        charged = {part["cause"]: part["lost_ns"] for part in body["parts"] if part["cause"] in LIMITS}
        assert not any(charged.values()), charged
        first = self._first(body)
        assert first, body["suspects"]
        assert first["entity"]["id"] == entity_id, body["suspects"]
        assert enable in first["enable"], body["suspects"]
        assert enable in body["blind"][0]["enable"], body["blind"]

    def _first(self, body: dict[str, Any]) -> dict[str, Any]:
        """The first suspect of those that this test started to be suspected; empty if there is none."""
        ours = {self.subject.entity.id, self.subject.neighbour_id}
        return next((suspect for suspect in body["suspects"] if suspect["entity"]["id"] in ours), {})

    def once(self, has_come: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The verdict once it has come to this, or as it is after a minute."""
        deadline = time.monotonic() + 60
        while not has_come(body := self.body()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return body


@pytest.fixture(scope="module")
def strangers(docker_engine: docker.DockerClient) -> Iterator[Strangers]:  # noqa: F811 - that fixture
    cores = layout.here()
    if cores.subject is None:
        pytest.skip("one core only: what measures would disturb what is measured")
    with ExitStack() as stack:
        place = stack.enter_context(Containers(docker_engine))
        engine.probe(place)
        watching = Watching(place, stack.enter_context(Processes()), cores)
        watching.open_server()
        yield Strangers(Stage(place, watching, cores, stack))
    assert not place.problems


NODE = Container(Variant(), Way(server="node"))
#: On one core the kernel's throttled time is the time that passed.
ON_ONE_CORE = Container(Variant(), Way(server="node", cores="one"))
WORK = "/cpu?ms=60"


def test_a_quota_whose_throttled_time_is_read(strangers: Strangers) -> None:
    """With the one reading enabled the quota is the first culprit, and the truth lies in its range."""
    with strangers.collector(THROTTLED) as collector, strangers.stage.subject(ON_ONE_CORE) as subject:
        answer = strangers.answer(collector, subject, WORK, WORK, limits.quota(subject, 10))
        body = answer.once(lambda body: bool(body["culprits"]))
    assert body["culprits"], body
    first = body["culprits"][0]
    assert (first["cause"], first["entity"]["id"]) == ("container.cpu_throttled", subject.entity.id), body
    part = next(part for part in body["parts"] if part["cause"] == "container.cpu_throttled")
    assert part["evidence"] == "inferred"
    # The client waited for other things as well where the machine is busy.
    assert part["low_ns"] <= answer.throttled_ns * 1.03 + 3_000_000, (part, answer)
    assert part["high_ns"] >= min(answer.throttled_ns, answer.more_ns) * 0.97 - 3_000_000, (part, answer)


def test_a_quota_whose_throttled_time_is_not_read(strangers: Strangers) -> None:
    """Without it its own container is the first suspect, and the verdict says which reading to enable."""
    with strangers.collector() as collector, strangers.stage.subject(NODE) as subject:
        answer = strangers.answer(collector, subject, WORK, WORK, limits.quota(subject, 10))
        answer.suspects(subject.entity.id, THROTTLED)


def test_a_neighbour(strangers: Strangers) -> None:
    """The container that began to compute on the same machine is the first suspect."""
    with strangers.collector() as collector, strangers.stage.subject(NODE) as subject:
        answer = strangers.answer(collector, subject, WORK, WORK, neighbours.neighbour(subject))
        answer.suspects(subject.neighbour_id, "layerline agent")


def test_a_device_limit(strangers: Strangers) -> None:
    """A container that wrote while its time went missing is the first suspect, for its disk."""
    with (
        strangers.collector() as collector,
        strangers.stage.subject(Container(Variant(write_kib_per_second=1024), Way(server="node"))) as subject,
    ):
        answer = strangers.answer(collector, subject, "/write?kib=4", "/write?kib=512", nullcontext())
        answer.suspects(subject.entity.id, "layerline agent")
