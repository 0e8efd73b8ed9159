"""Run the cases: a usual for each operation, then case after case, then the verdicts of the whole variant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from docker.errors import DockerException

from benchmarks.lab.fault import Case, Expected, Fault, Parameters, Variant
from benchmarks.lab.path_truth import along_path, recording
from benchmarks.lab.record import Record, Truth
from benchmarks.lab.stage import Stage, Subject
from benchmarks.lab.tracefs import TraceError
from layerline_api.demo.ask import Ask
from layerline_api.demo.intruders import TOLERATED
from layerline_api.demo.load import Response, median_ns, send
from layerline_api.demo.place import DemoError

#: A usual needs 20 requests; some more keep its middle steady. Six per case outnumber the three faulty ones.
USUAL, HEALTHY, FAULTY = 26, 6, 3
WARM_UP = 3
PAUSE_S = 0.02
#: Longer than the period of a CPU limit (100 ms): each request begins with its full quota, and in readings of its own.
FAULTY_PAUSE_S = 0.25
REPEATS = 2
SETTLED_S = 15.0


@dataclass(frozen=True, slots=True)
class Lab:
    """The stage and whom to ask."""

    stage: Stage
    ask: Ask

    def run(self, variant: Variant, cases: Sequence[Case], each: Callable[[Record], None]) -> list[Record]:
        """The records of the cases that share a container, still without verdicts. If the container fails, the cases
        that it did not come to are missing; DemoError or DockerException says why.
        """
        records = []
        with self.stage.subject(variant) as subject:
            usual_of: set[str] = set()
            for case in cases:
                records.append(self._case(subject, case, usual_of))
                each(records[-1])
        self.stage.watching.check()
        return records

    def verdicts(self, records: Sequence[Record]) -> Iterator[Record]:
        """The same records with their verdicts, settled; asked for while the next container is at work, best."""
        deadline = time.monotonic() + SETTLED_S
        for record in records:
            if record.failure is None:
                self.ask.verdict(record.trace_id, deadline - time.monotonic())
                yield replace(record, verdict=self.ask.body(f"requests/{record.trace_id}"))
            else:
                yield record

    def _case(self, subject: Subject, case: Case, usual_of: set[str]) -> Record:
        """A case, after enough healthy requests if it is the first of its operation in this container."""
        operation = case.fault.healthy(case.parameters)
        began = time.monotonic()
        try:
            if operation not in usual_of:
                load(subject, operation, WARM_UP + USUAL, PAUSE_S)
                usual_of.add(operation)
        except DemoError as problem:
            return _record(subject, case, Attempt(), began, failure=str(problem))
        return run_case(subject, case, self.ask)


def load(subject: Subject, path: str, count: int, pause_s: float) -> tuple[Response, ...]:
    """Requests to the subject."""
    return send(subject.url + subject.resolve(path), count, pause_s)


def run_case(subject: Subject, case: Case, ask: Ask) -> Record:
    """One case, again while the machine did other work on the subject's core. What fails is said in the record."""
    began = time.monotonic()
    attempts = []
    try:
        for _ in range(1 + REPEATS):
            attempts.append(attempt(subject, case.fault, case.parameters, ask))
            if attempts[-1].others <= TOLERATED or case.fault.restarts:
                break
    except (DemoError, DockerException) as problem:
        return _record(subject, case, Attempt(), began, failure=str(problem))
    return _record(subject, case, min(attempts, key=lambda made: made.others), began)


def not_run(case: Case, why: str) -> Record:
    """The record of a case whose container did not come up."""
    return Record(
        number=case.number,
        fault=case.fault.name,
        kind=case.fault.kind,
        app=case.fault.variant.app,
        variant=str(case.fault.variant),
        parameters=dict(case.parameters),
        truths=(),
        neighbour_id=None,
        blind=case.fault.blind,
        healthy_ns=(),
        faulty_ns=(),
        others_ratio=0.0,
        disturbed=False,
        trace_id="",
        seconds=0.0,
        failure=why,
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """Healthy requests, then faulty ones, and the share of the core that others had during the latter."""

    healthy: tuple[Response, ...] = ()
    faulty: tuple[Response, ...] = ()
    others: float = 0.0
    kernel: Mapping[str, int] = field(default_factory=dict)
    """By cause, what the kernel saw on the path of the judged request (ns); empty if it was not asked."""

    @property
    def judged(self) -> Response | None:
        """The middle faulty request, by client time."""
        return sorted(self.faulty, key=lambda one: one.duration_ns)[len(self.faulty) // 2] if self.faulty else None


def attempt(subject: Subject, fault: Fault, parameters: Parameters, ask: Ask) -> Attempt:
    """One try at a case."""
    healthy = load(subject, fault.healthy(parameters), HEALTHY, PAUSE_S)
    faulty: list[Response] = []

    def trouble() -> None:
        for _ in range(FAULTY):
            with fault.arm(subject, parameters):
                faulty.extend(load(subject, fault.faulty(parameters), 1, 0))
            time.sleep(FAULTY_PAUSE_S)

    traced = recording(subject.cores) if fault.traced else nullcontext(None)
    with fault.inject(subject, parameters):
        with traced as trace:
            time.sleep(FAULTY_PAUSE_S)
            _, others = subject.intruders().share_of(trouble)
        made = Attempt(healthy, tuple(faulty), others)
        if trace is None or made.judged is None:
            return made
        try:
            kernel = along_path(trace, ask, made.judged.trace_id, subject.entity.id, subject.pid)
        except (LookupError, TraceError) as problem:
            raise DemoError(f"the kernel's trace does not tell the truth of this case: {problem}") from problem
        return replace(made, kernel=kernel)


def _record(subject: Subject, case: Case, made: Attempt, began: float, failure: str | None = None) -> Record:
    healthy, faulty, others = made.healthy, made.faulty, made.others
    fault = case.fault
    judged = made.judged
    more_ns = judged.duration_ns - median_ns(healthy) if judged else 0
    return Record(
        number=case.number,
        fault=fault.name,
        kind=fault.kind,
        app=fault.variant.app,
        variant=str(fault.variant),
        parameters=dict(case.parameters),
        truths=truths(subject, case, more_ns, made.kernel),
        neighbour_id=subject.neighbour_id if fault.neighbour else None,
        blind=fault.blind,
        healthy_ns=tuple(response.duration_ns for response in healthy),
        faulty_ns=tuple(response.duration_ns for response in faulty),
        others_ratio=others,
        disturbed=others > TOLERATED and not fault.restarts,
        trace_id=judged.trace_id if judged else "",
        seconds=time.monotonic() - began,
        failure=failure,
    )


def truths(subject: Subject, case: Case, more_ns: int, kernel: Mapping[str, int]) -> tuple[Truth, ...]:
    """Constants where there are some, and the kernel's figures where it was asked; what the client measured more, less
    the constants, for the one that has neither.
    """
    constants = [
        case.parameters[expected.constant] * 1_000_000
        for expected in case.fault.expected
        if expected.constant is not None
    ]
    rest_ns = max(0, more_ns - sum(constants))

    def truth(expected: Expected) -> Truth:
        entity_id = subject.entity_id(expected.entity)
        if expected.constant is not None:
            return Truth(expected.cause, entity_id, case.parameters[expected.constant] * 1_000_000, "constant")
        if expected.cause in kernel:
            return Truth(expected.cause, entity_id, kernel[expected.cause], "kernel")
        return Truth(expected.cause, entity_id, rest_ns, "client")

    return tuple(truth(expected) for expected in case.fault.expected)


def seconds_per_case(records: Sequence[Record]) -> float:
    """The median."""
    return statistics.median(record.seconds for record in records) if records else 0.0
