"""Who may be behind time that nobody measured: company is named, and charged nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from spans import (
    MS,
    a_while_ago,
    alone,
    batch,
    container_id,
    drawn_name,
    resource,
    series_rows,
    span_row,
    together,
)

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, resource_key
from layerline_correlator.verdict.model import Verdict
from layerline_correlator.verdict.suspects import Open, suspects

TRACE = "5a5bec75" * 4
#: What a stranger's collector says, in seconds: once before the healthy requests, then every ten.
TICKS = [-70, -60, -50, -40, -30, -20, -10, 0, 10]


def stranger(length_ms: float) -> dict[str, Any]:
    """A request of a service without our account."""
    return {"id": "a", "kind": "server", "container": "web-1", "name": "GET /cart", "ms": [0, length_ms]}


def counter(signal: str, container: str, per_tick: list[float]) -> dict[str, Any]:
    """A counter that rises by so much (milliseconds, or bytes) from each tick to the next."""
    values = [sum(per_tick[:number]) for number in range(len(TICKS))]
    tags = {"disk.io.direction": "write"} if signal == "container.disk.io" else {}
    at = [tick * 1_000 + 9_000 for tick in TICKS]
    return {"signal": signal, "container": container, "tags": tags, "at": at, "values": values}


@dataclass(frozen=True, slots=True)
class Case:
    """What is read of the machine, and what the slow request says beside ``stranger``."""

    readings: Sequence[dict[str, Any]]
    slow: Mapping[str, Any] = field(default_factory=dict)

    def usual(self, number: int, zero_ns: int) -> Batch:
        """Thirty requests of 50 ms, a second apart, and the readings."""
        spans = [span_row(stranger(50), f"{number:016x}{n:016x}", zero_ns - (n + 2) * 1_000 * MS) for n in range(30)]
        return batch(spans, (series_rows(series, zero_ns) for series in self.readings))

    def asked(self, number: int, zero_ns: int) -> Batch:
        """Then one of 600 ms."""
        return batch([span_row({**stranger(600), **self.slow}, trace_of(number), zero_ns)])


def trace_of(number: int) -> str:
    return f"5a5bec75{number:024x}"


def judged(correlator: Correlator, *cases: Case) -> list[Verdict]:
    """The verdict of each case's slow request; several cases are on machines of their own, in one store."""
    zero_ns = a_while_ago()
    changed = alone if len(cases) > 1 else lambda drawn, number: drawn
    for drawn in (Case.usual, Case.asked):
        correlator.append(together(changed(drawn(case, n, zero_ns), n) for n, case in enumerate(cases)))
        correlator.requests(RequestQuery(from_ns=0, to_ns=zero_ns))
    verdicts = []
    for number in range(len(cases)):
        verdict = correlator.verdict(trace_of(number))
        assert verdict is not None
        assert not verdict.conclusive
        assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == verdict.duration_ns
        verdicts.append(verdict)
    return verdicts


def cpu(number: int, busy_ratio: float) -> list[dict[str, Any]]:
    """One CPU of the machine, of which so much is in use."""
    shares = {
        "user": busy_ratio / 2,
        "system": busy_ratio / 2,
        "idle": (1 - busy_ratio) / 2,
        "iowait": (1 - busy_ratio) / 2,
    }
    at = [tick * 1_000 + 9_000 for tick in TICKS]
    return [
        {
            "signal": "system.cpu.time",
            "tags": {"cpu.logical_number": f"{number}", "cpu.mode": mode},
            "at": at,
            "values": [10_000 * share * tick for tick in range(len(TICKS))],
        }
        for mode, share in shares.items()
    ]


QUIET = counter("container.cpu.time", "web-1", [100.0] * 8)
RISING = counter("container.cpu.time", "batch-1", [10.0] * 6 + [9_500.0] * 2)
HALF_RISING = counter("container.cpu.time", "batch-1", [10.0] * 6 + [4_500.0] * 2)

#: All that one store is asked of; opening one for each took half a minute.
CASES = {
    "nobody rose": Case([QUIET, counter("container.cpu.time", "batch-1", [900.0] * 8)]),
    "a neighbour rose": Case([QUIET, RISING]),
    "a coroutine that awaits": Case([QUIET, RISING], {"reason": "coroutine"}),
    "a task": Case([QUIET, RISING], {"account": "task", "cpu": 5, "blkio": 590}),
    "a thread that waited for a disk, and for no CPU": Case([QUIET, RISING], {"cpu": 5, "wait": 0, "blkio": 590}),
    "a thread that stood ready": Case([QUIET, RISING], {"cpu": 5, "wait": 590}),
    "a thread that was not measured": Case([QUIET, RISING], {"reason": "thread_hop"}),
    "a full CPU": Case([QUIET, HALF_RISING, *cpu(0, 0.95), *cpu(1, 0.1)]),
    "CPUs to spare": Case([QUIET, HALF_RISING, *cpu(0, 0.45), *cpu(1, 0.1)]),
    "a calm machine": Case(cpu(0, 0.3), {"container": None}),
    "it wrote": Case([QUIET, counter("container.disk.io", "web-1", [5e6] * 8)]),
    "never throttled": Case([QUIET, counter("container.cpu.throttled", "web-1", [0.0] * 8)]),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Verdict]]:
    """The verdict of each case."""
    opened = Correlator.open(Settings(store=tmp_path_factory.mktemp("suspects") / "store", group_ns=0))
    yield dict(zip(CASES, judged(opened, *CASES.values()), strict=True))
    opened.close()


def names(verdict: Verdict) -> list[str]:
    """Who is suspected, as drawn."""
    return [drawn_name(one.entity.name) for one in verdict.suspects]


def test_without_its_throttled_time_a_container_is_its_own_first_suspect(verdicts: dict[str, Verdict]) -> None:
    """Nothing else rose: the container is suspected, for the cause that one more reading would decide."""
    verdict = verdicts["nobody rose"]
    first = verdict.suspects[0]
    assert (first.entity.type, first.cause) == ("container", "container.cpu_throttled")
    assert names(verdict) == ["web-1"]
    assert first.excess_ns == pytest.approx(550 * MS, abs=90 * MS)
    assert not [part for part in verdict.parts if part.cause.startswith(("container.", "host."))]
    assert verdict.blind[0].cause == "container.cpu_throttled"


def test_a_neighbour_that_rose_is_suspected_first(verdicts: dict[str, Verdict]) -> None:
    """Who ran beside the slow request, and did not before, comes before the container in which it happened."""
    verdict = verdicts["a neighbour rose"]
    assert names(verdict) == ["batch-1", "web-1"]
    first = verdict.suspects[0]
    assert (first.cause, first.excess_ns) == ("host.cpu_contended", None)
    assert first.readings[0].value == pytest.approx(0.95, abs=0.01)
    assert first.readings[0].usual == pytest.approx(0.001, abs=0.001)
    assert verdict.blind[0].cause == "host.cpu_contended"


@pytest.mark.parametrize(
    "case", ["a coroutine that awaits", "a task", "a thread that waited for a disk, and for no CPU"]
)
def test_a_neighbour_is_no_suspect_where_nothing_waited_for_a_cpu(verdicts: dict[str, Verdict], case: str) -> None:
    """Where the run queue was measured, or somebody awaited, no neighbour and no CPU limit is behind the open time."""
    verdict = verdicts[case]
    causes = {(one.entity.name, one.cause) for one in verdict.suspects}
    assert "batch-1" not in names(verdict), causes
    assert not [one for one in causes if one[1] in ("host.cpu_contended", "container.cpu_throttled")], causes


@pytest.mark.parametrize("case", ["a thread that stood ready", "a thread that was not measured"])
def test_a_neighbour_is_a_suspect_where_something_may_have_waited(verdicts: dict[str, Verdict], case: str) -> None:
    """Its sibling: time in the run queue, or time of which nothing is known, may be a neighbour's doing."""
    assert names(verdicts[case])[0] == "batch-1"


@pytest.mark.parametrize(
    ("inner", "suspected"),
    [
        pytest.param("web-1", {"web-1"}, id="what it runs inside of"),
        pytest.param("batch-1", {"batch-1", "web-1"}, id="what somebody else runs inside of"),
    ],
)
def test_an_outer_container_is_no_suspect(correlator: Correlator, inner: str, suspected: set[str]) -> None:
    """A container that holds others did what they did: it is not suspected of it, least of all by those inside."""
    attributes = {**resource(None, inner).attributes, "layerline.container.parent": container_id("dind-1")}
    correlator.append(Batch(resources=[ResourceRow(resource_key(attributes), attributes)]))
    outer = {**RISING, "container": "dind-1"}
    (verdict,) = judged(correlator, Case([QUIET, outer, *([RISING] if inner == "batch-1" else [])]))
    assert {one.entity.name for one in verdict.suspects} == suspected


def test_nobody_is_told_to_run_an_agent_that_runs(correlator: Correlator) -> None:
    """Where our agent reads the machine, what it did not read is asked of it; its machine is not told to run one."""
    cpus = counter("system.cpu.time", "web-1", [0.0] * 8) | {"container": None, "tags": {"cpu.mode": "user"}}
    (verdict,) = judged(correlator, Case([cpus], {"reason": "generator"}))
    enable = {one.cause: one.enable for one in verdict.blind}
    assert not [text for text in enable.values() if "run `layerline agent`" in text], enable
    assert enable["container.paused"].startswith("ask `layerline coverage` why `layerline agent`")
    assert enable["app.cpu_crowded"] == "start the service with `layerline run -- CMD`"


def test_who_has_no_agent_is_told_where_to_run_one(correlator: Correlator) -> None:
    """Its sibling: the machine that nobody reads is named."""
    zero_ns = a_while_ago()
    machine = resource(None, None, "host-9")  # it was described once, and is not read now
    correlator.append(Batch(resources=[machine]))
    slow = {**stranger(600), "host": "host-9", "container": None, "cpu": 5, "wait": 590}
    correlator.append(batch([span_row(slow, TRACE, zero_ns)]))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    enable = {one.cause: one.enable for one in verdict.blind}
    assert enable["host.cpu_contended"] == "run `layerline agent` on machine host-9-name"
    assert enable["app.gil_waited"] == "start the service with `layerline run -- CMD`"
    assert not [cause for cause in enable if cause.startswith(("container.", "dependency.", "network."))], enable


@pytest.mark.parametrize(("case", "first"), [("a full CPU", "batch-1"), ("CPUs to spare", "web-1")])
def test_a_neighbour_is_no_suspect_on_a_machine_with_cpus_to_spare(
    verdicts: dict[str, Verdict], case: str, first: str
) -> None:
    """Who rose took nobody's CPU when no CPU of the machine was full."""
    verdict = verdicts[case]
    assert names(verdict)[0] == first
    assert (first == "batch-1") == ("host.cpu_contended" in {one.cause for one in verdict.suspects})


def test_on_a_calm_machine_the_account_of_the_threads_decides(verdicts: dict[str, Verdict]) -> None:
    """With CPUs to spare nobody waited behind a neighbour: what its threads did is the one thing to measure."""
    verdict = verdicts["a calm machine"]
    (first,) = verdict.suspects
    assert (first.entity.type, first.cause) == ("host", "app.blocked")
    assert first.enable == verdict.blind[0].enable == "start the service with `layerline run -- CMD`"


def test_a_container_that_wrote_may_have_waited_for_its_disk(verdicts: dict[str, Verdict]) -> None:
    """It moved bytes while time went missing: its disk limit comes before its CPU limit."""
    verdict = verdicts["it wrote"]
    assert (names(verdict)[0], verdict.suspects[0].cause) == ("web-1", "container.io_throttled")


def test_what_was_measured_is_not_suspected(verdicts: dict[str, Verdict]) -> None:
    """Where the throttled time is known and did not grow, the CPU limit is no suspect."""
    assert "container.cpu_throttled" not in {one.cause for one in verdicts["never throttled"].suspects}


def test_what_is_explained_has_no_suspects(correlator: Correlator) -> None:
    """A request whose time was measured is nobody else's matter, whoever rose beside it."""
    zero_ns = a_while_ago()
    rising = counter("container.cpu.time", "batch-1", [10.0] * 6 + [9_500.0] * 2)
    busy = {**stranger(600), "cpu": 598}
    correlator.append(batch([span_row(busy, TRACE, zero_ns)], [series_rows(rising, zero_ns)]))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert verdict.suspects == []


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({}, "5,264 ms more than usual were spent in web, and"),
        ({"requests": 14}, "5,264 ms more than usual were spent in web by 14 requests together, and"),
        ({"has_usual": False}, "5,264 ms were spent in web, and"),
    ],
    ids=["a request", "a window", "no usual yet"],
)
def test_what_was_spent_is_said_of_whom_and_beside_what(place: dict[str, Any], said: str) -> None:
    """A sum over requests says so, and nothing is called more than usual where no usual is known."""
    opens = [Open("web", None, "host-1", 5264 * MS, 0, frozenset(), **place)]
    (suspect,) = suspects(opens, [], 5264 * MS, lambda kind, identity: Entity(kind, identity, identity))
    assert suspect.because.startswith(said)
