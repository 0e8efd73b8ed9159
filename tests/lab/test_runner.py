"""How a case goes: tried again if disturbed, set aside if its truth is not known, judged when that is settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.lab import runner
from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.fault import Case, Container
from benchmarks.lab.path_truth import Seen
from benchmarks.lab.record import Record
from benchmarks.lab.runner import Attempt, Lab
from benchmarks.lab.stage import Stage
from benchmarks.lab.tracefs import TraceError
from layerline_api.demo.ask import Ask
from layerline_api.demo.load import Response
from layerline_api.demo.place import DemoError

MS = 1_000_000
FAULTS = all_faults()


def case(fault: str = "cpu_quota", number: int = 1) -> Case:
    """A case in the first way that its fault allows."""
    return Case(number, FAULTS[fault], FAULTS[fault].ways[0], {"percent": 15})


def attempt(others: float = 0.0, seen: Seen | None = None) -> Attempt:
    """Healthy requests of 60 ms and faulty ones of about 300."""

    def responses(*durations_ms: int) -> tuple[Response, ...]:
        return tuple(Response(f"trace-{ms}", 0, ms * MS) for ms in durations_ms)

    return Attempt(responses(60, 60, 60), responses(290, 300, 320), others, runner.time.monotonic(), seen)


class FakeStage:
    """A stage whose subject does nothing, and whose agent and server always run."""

    def __init__(self, problem: DemoError | None = None) -> None:
        self.watching = SimpleNamespace(check=lambda: None)
        self.problem = problem

    @contextmanager
    def subject(self, container: Container) -> Iterator[Any]:
        if self.problem is not None:
            raise self.problem
        yield SimpleNamespace(
            stage=self,
            period_ms=100,
            neighbour_id=None,
            entity=SimpleNamespace(id="c1"),
            entity_id=lambda word: "c1",
        )


class FakeAsk:
    """A server that knows every request at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def verdict(self, trace_id: str, timeout_s: float) -> None:
        self.asked.append(trace_id)

    def body(self, path: str) -> dict[str, Any]:
        return {"path": path, "segments": [1]}


def lab(problem: DemoError | None = None) -> Lab:
    """A lab without Docker."""
    return Lab(cast("Stage", FakeStage(problem)), cast("Ask", FakeAsk()))


def run(cases: list[Case], monkeypatch: pytest.MonkeyPatch, *made: Attempt | Exception) -> tuple[Lab, list[Record]]:
    """The records of these cases, whose attempts are scripted, still without verdicts."""
    script = iter(made)

    def scripted(*_: object) -> Attempt:
        one = next(script)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(runner, "attempt", scripted)
    monkeypatch.setattr(runner, "load", lambda *_: ())
    running = lab()
    records = list(running.run(cases[0].container, cases))
    assert next(script, None) is None, "an attempt was not made"
    return running, records


def test_the_least_disturbed_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbed attempt is made again; the quietest one counts, and one that stays disturbed is marked."""
    _, (record,) = run([case()], monkeypatch, attempt(0.5), attempt(0.02))
    assert (record.others_ratio, record.disturbed) == (0.02, False)
    _, (record,) = run([case()], monkeypatch, attempt(0.5), attempt(0.3), attempt(0.4))
    assert (record.others_ratio, record.disturbed) == (0.3, True)
    assert record.truths[0].truth_ns == 240 * MS
    assert record.trace_id == "trace-300"


def test_a_case_whose_truth_is_not_known_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that lost events is tried again; if it never holds, the case is not counted, and says why."""
    _, (record,) = run([case()], monkeypatch, TraceError("it lost 7 events"), attempt())
    assert record.failure is None
    _, (record,) = run([case()], monkeypatch, *[TraceError("it lost 7 events")] * 3)
    assert (record.disturbed, record.failure) == (True, "the truth of this case is not known: it lost 7 events")


def test_a_failure_is_a_miss_and_costs_no_other_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails is the failure of its own case, which counts; the next case in the container goes on."""
    _, (first, second) = run([case(), case(number=2)], monkeypatch, DemoError("answered with 500"), attempt())
    assert (first.failure, first.disturbed) == ("answered with 500", False)
    assert second.failure is None


def test_a_container_that_does_not_start_costs_its_own_cases() -> None:
    """Every case of it has a record that says so, and none waits for a verdict."""
    broken = lab(DemoError("it ended while starting"))
    assert len(list(broken.run(case().container, [case(), case(number=2)]))) == 2
    assert [record.failure for record in broken.verdicts()] == ["sync-1+all: it ended while starting"] * 2


def test_a_verdict_is_asked_for_when_it_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before ten seconds have passed nothing is asked and nothing waits; at the end all are waited for."""
    slept: list[float] = []
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append)
    monkeypatch.setattr(runner, "time", clock)
    running, _ = run([case(), case(number=2)], monkeypatch, attempt(), attempt())
    assert list(running.verdicts()) == []
    now[0] += runner.SETTLED_S
    assert [record.number for record in running.verdicts()] == [1, 2]
    assert slept == [0.0, 0.0]
    running, _ = run([case()], monkeypatch, attempt())
    now[0] += 4
    (record,) = running.verdicts(all_of_them=True)
    assert slept[-1] == runner.SETTLED_S - 4
    assert record.verdict == {"path": "requests/trace-300", "segments": [1]}


def test_the_kernels_figure_is_the_truth_where_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client measured gives way to the kernel's trace; all that the trace says is kept with the case."""
    monkeypatch.setattr(runner, "along_path", lambda *_: {"container.cpu_throttled": 225 * MS, "app.cpu_crowded": 0})
    monkeypatch.setattr(runner, "SETTLED_S", 0.0)
    running, _ = run([case()], monkeypatch, attempt(seen=Seen()))
    (record,) = running.verdicts(all_of_them=True)
    assert (record.truths[0].truth_ns, record.truths[0].source) == (225 * MS, "kernel")
    assert record.kernel_ns == {"container.cpu_throttled": 225 * MS, "app.cpu_crowded": 0}
