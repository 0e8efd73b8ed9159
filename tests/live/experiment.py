"""A container that was healthy and then was not: what the client measured, and what Layerline says about it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from layerline_api.demo.ask import Ask, Part, Verdict, read
from layerline_api.demo.containers import Containers
from layerline_api.demo.intruders import Intruders, undisturbed
from layerline_api.demo.layout import Cores
from layerline_api.demo.load import Response, median_ns, send
from layerline_api.demo.place import Entity, Limits, Service, wait_ready
from layerline_api.demo.watching import Watching
from waiting import PATIENCE_S

Made = TypeVar("Made")

APP = Path(__file__).with_name("app.py")
#: The container that keeps the subject's core busy.
NEIGHBOUR = "burner"
#: The healthy ones outnumber the slow ones even if those have to be sent three times: the usual is their better half.
HEALTHY, FAULTY, SETTLING = 36, 10, 2
PAUSE_S = 0.02
#: Longer than the period of a CPU limit: each request begins with its full quota, instead of waiting for it unseen.
FAULTY_PAUSE_S = 0.12
#: A verdict is settled ten seconds after its request; readings are usually there after two, or six if nobody asked.
SETTLED_S = 7.0
#: How many of the requests must name the cause first.
AGREEMENT = 0.8


@dataclass(frozen=True, slots=True)
class Live:
    """A place, a server and an agent, shared by the session's tests."""

    place: Containers
    watching: Watching
    cores: Cores

    def app(self, name: str, limits: Mapping[str, Any]) -> App:
        """A container of ``app.py`` under ``layerline run``, which begins to start; the service has the same name."""
        command = (
            *("-m", "layerline.command", "run", "--", sys.executable, str(APP)),
            *("--listen", self.place.listen(name, 8000), "--folder", self.place.folder(name)),
        )
        within = Limits(cpuset=self.cores.subject, **limits)
        environment = self.watching.environment(name)
        service = Service(name, command, environment, port=8000, folder=name, limits=within, binds=(APP.parent,))
        return App(self, name, self.place.start(service))

    def outcomes(self, experiments: Mapping[str, Experiment]) -> Mapping[str, Outcome | Exception]:
        """What comes of each experiment, by its name; an exception where it could not be carried out.

        Faults are injected one after the other, since each is measured; the containers are started together, and the
        verdicts are asked for when all is done: most of them are settled by then.
        """
        apps: dict[str, App] = {}
        try:
            for name, experiment in experiments.items():
                apps[name] = self.app(name, experiment.limits)
            for name in apps:
                wait_ready(self.place, name, timeout_s=PATIENCE_S)
            sent = {name: caught(partial(experiments[name].fault, app)) for name, app in apps.items()}
            return {
                name: each if isinstance(each, Exception) else caught(partial(apps[name].outcome, each))
                for name, each in sent.items()
            }
        finally:
            with ThreadPoolExecutor() as pool:
                list(pool.map(self.place.stop, apps))

    @contextmanager
    def neighbour(self, shares: int = 8 * 1024) -> Iterator[Entity]:
        """A container that keeps the subject's core busy."""
        command = ("-m", "layerline_api.demo.shop.burner", "--processes", "2")
        service = Service(NEIGHBOUR, command, limits=Limits(cpuset=self.cores.subject, cpu_shares=shares))
        entity = self.place.start(service)
        try:
            yield entity
        finally:
            self.place.stop(NEIGHBOUR)


@dataclass(frozen=True, slots=True)
class Sent:
    """What the client saw of an experiment, without the fault and with it."""

    healthy: tuple[Response, ...]
    faulty: tuple[Response, ...]
    other: str = ""
    """Who else took part: a container's id, or a dependency's address."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A fault, and what else the container may use from its start (fields of ``Limits``)."""

    fault: Callable[[App], Sent]
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class App:
    """A running app under test."""

    live: Live
    name: str
    entity: Entity

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.live.place.url(self.name)

    def siblings(self, burn: int = 0, write: int = 0) -> None:
        """Keep so many other threads of the app busy from now on."""
        put(f"{self.url}/siblings?burn={burn}&write={write}")

    def limit_cpu(self, quota_ratio: float) -> None:
        """Set a CPU limit."""
        self.live.place.update(self.name, Limits(quota_ratio=quota_ratio))

    def counter(self, name: str) -> int:
        """A line of the container's ``cpu.stat``, read inside it."""
        files = "/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"
        script = f"import pathlib; print([pathlib.Path(f).read_text() for f in {files} if pathlib.Path(f).exists()][0])"
        output = self.live.place.container(self.name).exec_run([sys.executable, "-c", script]).output.decode()
        values = dict(line.split() for line in output.split("\n") if line.strip())
        return int(values[name])

    def throttled(self) -> int:
        """How often a quota has stopped the container."""
        return self.counter("nr_throttled")

    def healthy(self, work: str) -> tuple[Response, ...]:
        """Requests before the fault: enough for a usual, after two that warm up."""
        return self._load(work, HEALTHY, PAUSE_S)

    def faulty(self, work: str, *others: str) -> tuple[Response, ...]:
        """Requests with the fault, after two in which it takes hold; ``others`` run on the same core on purpose."""
        return self._load(work, FAULTY, FAULTY_PAUSE_S, *others)

    def experiment(
        self, work: str, trouble: str | None = None, begin: Callable[[], object] = lambda: None, other: str = ""
    ) -> Sent:
        """Healthy ``work``, then ``begin``, then ``trouble`` (the same work by default)."""
        healthy = self.healthy(work)
        begin()
        return Sent(healthy, self.faulty(trouble or work), other)

    def _load(self, work: str, count: int, pause_s: float, *others: str) -> tuple[Response, ...]:
        """Load on a core that is ours: what the machine did besides would be a fault of its own."""
        send(f"{self.url}/work?{work}", SETTLING, pause_s)
        intruders = Intruders(self.live.place, self.live.cores.subject, lambda: (self.name, *others))
        attempts = iter((True, True, False))
        load = partial(send, f"{self.url}/work?{work}", count, pause_s)
        return undisturbed(intruders, load, lambda _: next(attempts))[0]

    def outcome(self, sent: Sent) -> Outcome:
        """The verdicts of the faulty requests: settled, or as they are seven seconds after they were asked for."""
        faulty = sent.faulty
        with Ask(self.live.watching.url, self.live.watching.token) as ask:
            ask.verdict(faulty[-1].trace_id, SETTLED_S)
            bodies = [ask.body(f"requests/{response.trace_id}") for response in faulty]
        known = [read(body) for body in bodies if body is not None]
        assert len(known) == len(faulty), f"{len(faulty) - len(known)} of {len(faulty)} requests are unknown"
        return Outcome(self, sent, median_ns(faulty) - median_ns(sent.healthy), tuple(known))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client measured, and the verdicts."""

    app: App
    sent: Sent
    measured_ns: int
    verdicts: tuple[Verdict, ...]

    def blames(self, cause: str, entity_id: str | None = None) -> None:
        """At least four fifths of the requests name this cause first, at this entity; every ledger adds up."""
        for verdict in self.verdicts:
            adds_up(verdict)
        firsts = [verdict.first for verdict in self.verdicts]
        right = [part for part in firsts if part and part.cause == cause and entity_id in (None, part.entity_id)]
        assert len(right) >= AGREEMENT * len(firsts), (
            f"{len(right)} of {len(firsts)} requests blame {cause} {entity_id or ''} first:\n{self}"
        )

    def excess_ns(self, *causes: str) -> int:
        """The median, over the requests, of what these causes have together above their usual."""
        return round(
            statistics.median(
                sum(part.excess_ns for part in verdict.parts if part.cause in causes) for verdict in self.verdicts
            )
        )

    def explains(self, near: float, *causes: str) -> None:
        """These causes have what the requests took longer than usual, and no more than the client measured.

        For containers that are held back: there the client also waits before the handler begins, for a listener that
        stands still as well. That wait is in no span.
        """
        known = [verdict.duration_ns - verdict.usual_ns for verdict in self.verdicts if verdict.usual_ns is not None]
        assert len(known) == len(self.verdicts), str(self)
        assert self.excess_ns(*causes) == pytest.approx(statistics.median(known), rel=near), str(self)
        assert self.excess_ns(*causes) <= (1 + near) * self.measured_ns, str(self)

    def part(self, cause: str) -> list[Part]:
        """The part of a cause in each request that has one."""
        return [part for verdict in self.verdicts for part in verdict.parts if part.cause == cause]

    def __str__(self) -> str:
        """For a failed test: what the client saw, and every ledger."""
        lines = [f"the client measured {self.measured_ns / 1e6:.1f} ms more"]
        for verdict in self.verdicts:
            usual = "no usual" if verdict.usual_ns is None else f"usual {verdict.usual_ns / 1e6:.1f}"
            lines.append(
                f"{verdict.duration_ns / 1e6:.1f} ms ({usual}), unexplained {verdict.unexplained_ns / 1e6:.1f}"
            )
            for p in sorted(verdict.parts, key=lambda part: -part.excess_ns):
                figures = (f"{figure / 1e6:.1f}" for figure in (p.excess_ns, p.low_ns, p.lost_ns, p.high_ns))
                lines.append(f"    {p.cause} {p.entity_name}: excess, low, lost, high: {', '.join(figures)}")
        return "\n".join(lines)


def caught(action: Callable[[], Made]) -> Made | Exception:
    """What it returns, or raises: what goes wrong in one experiment costs the others nothing."""
    try:
        return action()
    except Exception as problem:
        return problem


def put(url: str) -> None:
    """Turn one of the app's or the dependency's handles."""
    with requests.Session() as session:
        session.put(url, timeout=60).raise_for_status()


def adds_up(verdict: Verdict) -> None:
    """The ledger's identity, for one request."""
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == verdict.duration_ns
    assert verdict.unexplained_ns >= 0
    assert all(0 <= part.low_ns <= part.lost_ns <= part.high_ns for part in verdict.parts), verdict.parts
