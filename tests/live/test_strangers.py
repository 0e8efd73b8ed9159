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
from waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.alone]

THROTTLED = "container.cpu.throttling_data.throttled_time"
USUAL, FAULTY, MOST_FAULTY = 24, 3, 12
PAUSE_S, FAULTY_PAUSE_S = 0.02, 0.25
#: The causes that nothing of this machine's readings can measure.
LIMITS = ("container.cpu_throttled", "container.io_throttled", "host.cpu_contended", "host.io_saturated")


@dataclass(frozen=True, slots=True)
class Slow:
    """A request with the trouble, and what the kernel says of it: how long its container was held back, and how many
    CPUs the neighbour used between the readings around it.
    """

    response: Response
    throttled_ns: int
    neighbour_cpus: float


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
        self,
        collector: Collector,
        subject: Subject,
        healthy: str,
        faulty: str,
        trouble: AbstractContextManager[None],
        holds: Callable[[Slow], bool] = lambda slow: True,
    ) -> Answer:
        """What is said of the middle one of some requests with the trouble, after enough without it.

        Everybody is read before and after each: who was read for the first time after a request is not known to have
        risen in it. ``holds`` says whether a request had the trouble at all: where the machine is so busy with other
        things that a neighbour gets no CPU, or the subject not even its quota, there is nothing to be said of it.
        """
        collector.scrape()
        well = send(subject.url + healthy, USUAL, PAUSE_S)
        collector.scrape()
        slow: list[Slow] = []
        with trouble:
            collector.scrape()
            for _ in range(MOST_FAULTY):
                held_ns, used_ns, began_ns = throttled_ns(subject), self._neighbour_ns(subject), time.monotonic_ns()
                (response,) = send(subject.url + faulty, 1, 0)
                held_ns = throttled_ns(subject) - held_ns
                time.sleep(FAULTY_PAUSE_S)
                collector.scrape()
                cpus = (self._neighbour_ns(subject) - used_ns) / (time.monotonic_ns() - began_ns)
                slow += [one for one in (Slow(response, held_ns, cpus),) if holds(one)]
                if len(slow) == FAULTY:
                    break
        if len(slow) < FAULTY:
            pytest.skip(f"others kept the machine so busy that {len(slow)} of {MOST_FAULTY} requests had the trouble")
        judged = sorted(slow, key=lambda one: one.response.duration_ns)[FAULTY // 2]
        more_ns = judged.response.duration_ns - median_ns(well)
        return Answer(self.stage.watching, judged, more_ns, subject)

    def _neighbour_ns(self, subject: Subject) -> int:
        """How much CPU time the neighbour has used so far; 0 without one."""
        return (self.stage.place.used_ns("neighbour") or 0) if "neighbour" in subject.visitors else 0


def throttled_ns(subject: Subject) -> int:
    """How long its CPU limit has held the container back so far, as the Engine says it."""
    stats: Any = subject.stage.place.container(subject.name).stats(stream=False, one_shot=True)
    return int(stats["cpu_stats"]["throttling_data"]["throttled_time"])


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, what the client and the kernel measured, and about whom."""

    watching: Watching
    judged: Slow
    more_ns: int
    subject: Subject

    def body(self) -> dict[str, Any]:
        """The verdict as it is now; it adds up."""
        with Ask(self.watching.url, self.watching.token) as ask:
            body = eventually(lambda: ask.body(f"requests/{self.judged.response.trace_id}"), "the request's span")
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
        seen = f"{body['suspects']}\n{self}"  # as text: pytest cuts anything else short
        assert first, seen
        assert first["entity"]["id"] == entity_id, seen
        assert enable in first["enable"], seen
        assert enable in body["blind"][0]["enable"], f"{body['blind']}\n{seen}"

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


def was_held_back(slow: Slow) -> bool:
    """Whether the quota, not a busy machine, took most of the time."""
    return slow.throttled_ns > slow.response.duration_ns // 2


def test_a_quota_whose_throttled_time_is_read(strangers: Strangers) -> None:
    """With the one reading enabled the quota is the first culprit, and the truth lies in its range."""
    with strangers.collector(THROTTLED) as collector, strangers.stage.subject(ON_ONE_CORE) as subject:
        answer = strangers.answer(collector, subject, WORK, WORK, limits.quota(subject, 10), was_held_back)
        body = answer.once(lambda body: bool(body["culprits"]) and bool(body["settled"]))
    assert body["culprits"], body
    first = body["culprits"][0]
    assert (first["cause"], first["entity"]["id"]) == ("container.cpu_throttled", subject.entity.id), body
    part = next(part for part in body["parts"] if part["cause"] == "container.cpu_throttled")
    assert part["evidence"] == "inferred"
    # The client waited for other things as well where the machine is busy.
    assert part["low_ns"] <= answer.judged.throttled_ns * 1.03 + 3_000_000, (part, answer)
    assert part["high_ns"] >= min(answer.judged.throttled_ns, answer.more_ns) * 0.97 - 3_000_000, (part, answer)


def test_a_quota_whose_throttled_time_is_not_read(strangers: Strangers) -> None:
    """Without it its own container is the first suspect, and the verdict says which reading to enable."""
    with strangers.collector() as collector, strangers.stage.subject(NODE) as subject:
        answer = strangers.answer(collector, subject, WORK, WORK, limits.quota(subject, 10), was_held_back)
        answer.suspects(subject.entity.id, THROTTLED)


def test_a_neighbour(strangers: Strangers) -> None:
    """The container that began to compute on the same machine is the first suspect."""
    with strangers.collector() as collector, strangers.stage.subject(NODE) as subject:
        answer = strangers.answer(
            collector, subject, WORK, WORK, neighbours.neighbour(subject), lambda slow: slow.neighbour_cpus > 0.5
        )
        answer.suspects(subject.neighbour_id, "layerline agent")


def test_a_device_limit(strangers: Strangers) -> None:
    """A container that wrote while its time went missing is the first suspect, for its disk."""
    with (
        strangers.collector() as collector,
        strangers.stage.subject(Container(Variant(write_kib_per_second=1024), Way(server="node"))) as subject,
    ):
        answer = strangers.answer(collector, subject, "/write?kib=4", "/write?kib=512", nullcontext())
        answer.suspects(subject.entity.id, "layerline agent")
