"""Run the cases: a usual for each operation, then case after case; each gets its verdict once that is settled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from docker.errors import DockerException

from benchmarks.lab.fault import Case, Container, Expected, Fault, Parameters
from benchmarks.lab.path_truth import Seen, along_path, recording, spans_of
from benchmarks.lab.record import Record, Truth
from benchmarks.lab.stage import Stage
from benchmarks.lab.subject import Subject
from benchmarks.lab.tracefs import TraceError
from layerline_api.demo.ask import Ask
from layerline_api.demo.intruders import TOLERATED
from layerline_api.demo.load import Response, median_ns, send
from layerline_api.demo.place import DemoError

#: A usual needs 20 requests that ended before. Six per case outnumber the three faulty ones.
WARM_UP, USUAL, HEALTHY, FAULTY = 2, 18, 6, 3
PAUSE_S = 0.01
#: Longer than the period of a CPU limit (100 ms): each request begins with its full quota, and in readings of its own.
FAULTY_PAUSE_S = 0.25
REPEATS = 2
#: A verdict is settled ten seconds after its request; then it is asked for, while other cases are at work.
SETTLED_S = 11.0
#: How much longer it may take on a busy machine.
LATE_S = 5.0
#: Nobody can be judged by a truth that is not known: such a case is set aside, as one that other work disturbed.
UNKNOWN = "the truth of this case is not known"


@dataclass(frozen=True, slots=True)
class Made:
    """A case that was run, whose verdict is still to come."""

    record: Record
    asked: float
    """When its last request had been answered (monotonic)."""
    seen: Seen | None = None
    container_id: str = ""


@dataclass(slots=True)
class Lab:
    """The stage and whom to ask. ``began``: of this piece of the run (monotonic)."""

    stage: Stage
    ask: Ask
    piece: int = 1
    began: float = field(default_factory=time.monotonic)
    waiting: deque[Made] = field(default_factory=deque)
    """What waits for its verdict."""

    def run(self, container: Container, cases: Sequence[Case]) -> Generator[Record, None, None]:
        """Run the cases that share a container; each yields its record, whose verdict is still to come.

        If the container does not come up, or fails, that costs the cases that were still to run and nothing more;
        DemoError if it was server or agent that failed. Close it, or the container stays.
        """
        left = deque(cases)
        try:
            with self.stage.subject(container) as subject:
                usual_of: set[str] = set()
                while left:
                    made = self._case(subject, left[0], usual_of)
                    left.popleft()
                    self.waiting.append(made)
                    yield made.record
        except (DockerException, DemoError) as problem:
            self.stage.watching.check()
            for case in left:
                record = self._record(case, failure=f"{container}: {problem}")
                self.waiting.append(Made(record, time.monotonic()))
                yield record
        self.stage.watching.check()

    def verdicts(self, all_of_them: bool = False) -> Iterator[Record]:
        """The records whose verdicts are settled by now, with them; or all, waiting for them."""
        while self.waiting:
            made = self.waiting[0]
            early_s = SETTLED_S - (time.monotonic() - made.asked)
            if early_s > 0 and not all_of_them and made.record.failure is None:
                return
            yield self._judged(made, max(0.0, early_s))
            self.waiting.popleft()

    def _judged(self, made: Made, early_s: float) -> Record:
        record = made.record
        if record.failure is not None:
            return record
        time.sleep(early_s)
        try:
            self.ask.verdict(record.trace_id, LATE_S)
            verdict = self.ask.body(f"requests/{record.trace_id}")
            if made.seen is None:
                return replace(record, verdict=verdict)
            kernel_ns = along_path(made.seen, spans_of(self.ask, record.trace_id), made.container_id)
        except (DemoError, TraceError) as problem:
            return replace(record, failure=f"{UNKNOWN}: {problem}", disturbed=True)
        truths = tuple(by_kernel(truth, kernel_ns) for truth in record.truths)
        return replace(record, verdict=verdict, truths=truths, kernel_ns=kernel_ns)

    def _case(self, subject: Subject, case: Case, usual_of: set[str]) -> Made:
        """A case, after enough healthy requests if it is the first of its operation in this container; again while the
        machine did other work on the subject's cores. What fails is said in the record.
        """
        began = time.monotonic()
        operation = case.fault.healthy(case.parameters)
        subject.period_ms = case.way.period_ms or subject.period_ms
        attempts: list[Attempt] = []
        unknown = ""
        try:
            if operation not in usual_of:
                load(subject, operation, WARM_UP + USUAL, PAUSE_S)
                usual_of.add(operation)
            for _ in range(1 + REPEATS):
                try:
                    attempts.append(attempt(subject, case.fault, case.parameters))
                except TraceError as problem:
                    unknown = f"{UNKNOWN}: {problem}"
                    continue
                if attempts[-1].others <= TOLERATED or case.fault.restarts:
                    break
        except (DemoError, DockerException) as problem:
            subject.stage.watching.check()
            return Made(self._record(case, began=began, failure=str(problem)), time.monotonic())
        if not attempts:
            return Made(self._record(case, began=began, failure=unknown, disturbed=True), time.monotonic())
        best = min(attempts, key=lambda made: made.others)
        return Made(self._record(case, subject, best, began), best.ended, best.seen, subject.entity.id)

    def _record(
        self,
        case: Case,
        subject: Subject | None = None,
        made: Attempt | None = None,
        began: float | None = None,
        failure: str | None = None,
        disturbed: bool = False,
    ) -> Record:
        fault, now = case.fault, time.monotonic()
        judged = made.judged if made else None
        return Record(
            number=case.number,
            piece=self.piece,
            fault=fault.name,
            kind=fault.kind,
            app=case.way.app,
            way=str(case.way),
            variant=str(fault.variant),
            parameters=dict(case.parameters),
            truths=truths(subject, case, made.more_ns) if subject and made else (),
            neighbour_id=subject.neighbour_id if subject and fault.neighbour else None,
            blind=fault.blind,
            healthy_ns=tuple(response.duration_ns for response in made.healthy) if made else (),
            faulty_ns=tuple(response.duration_ns for response in made.faulty) if made else (),
            others_ratio=made.others if made else 0.0,
            disturbed=disturbed or (made is not None and made.others > TOLERATED and not fault.restarts),
            trace_id=judged.trace_id if judged else "",
            seconds=now - (now if began is None else began),
            ended_s=now - self.began,
            failure=failure,
        )


def load(subject: Subject, path: str, count: int, pause_s: float) -> tuple[Response, ...]:
    """Requests to the subject."""
    return send(subject.url + subject.resolve(path), count, pause_s)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Healthy requests, then faulty ones, and the share of the subject's cores that others had during the latter."""

    healthy: tuple[Response, ...]
    faulty: tuple[Response, ...]
    others: float
    ended: float
    """When the last had been answered (monotonic)."""
    seen: Seen | None = None
    """What the kernel saw; None if it was not asked."""

    @property
    def judged(self) -> Response:
        """The middle faulty request, by client time."""
        return sorted(self.faulty, key=lambda one: one.duration_ns)[len(self.faulty) // 2]

    @property
    def more_ns(self) -> int:
        """What the client measured more with the fault than without."""
        return self.judged.duration_ns - median_ns(self.healthy)


def attempt(subject: Subject, fault: Fault, parameters: Parameters) -> Attempt:
    """One try at a case."""
    healthy = load(subject, fault.healthy(parameters), HEALTHY, PAUSE_S)
    faulty: list[Response] = []

    def trouble() -> None:
        for _ in range(FAULTY):
            with fault.arm(subject, parameters):
                faulty.extend(load(subject, fault.faulty(parameters), 1, 0))
            time.sleep(FAULTY_PAUSE_S)

    holder = subject.holder() if fault.holder else None
    with fault.inject(subject, parameters):
        with recording(subject.cores, subject.pid, holder) if fault.traced else nullcontext(None) as seen:
            time.sleep(FAULTY_PAUSE_S)
            _, others = subject.intruders().share_of(trouble)
            ended = time.monotonic()
        return Attempt(healthy, tuple(faulty), others, ended, seen)


def truths(subject: Subject, case: Case, more_ns: int) -> tuple[Truth, ...]:
    """Constants where there are some; what the client measured more, less the constants, for the one that has none."""
    constants = [
        case.parameters[expected.constant] * 1_000_000
        for expected in case.fault.expected
        if expected.constant is not None
    ]
    rest_ns = max(0, more_ns - sum(constants))

    def truth(expected: Expected) -> Truth:
        known_ns = None if expected.constant is None else case.parameters[expected.constant] * 1_000_000
        return Truth(
            expected.cause,
            subject.entity_id(expected.entity),
            rest_ns if known_ns is None else known_ns,
            "client" if known_ns is None else "constant",
            expected.also,
        )

    return tuple(truth(expected) for expected in case.fault.expected)


def by_kernel(truth: Truth, kernel_ns: dict[str, int]) -> Truth:
    """The kernel's figure instead of the client's, where it has one of this cause."""
    if truth.source != "client" or truth.cause not in kernel_ns:
        return truth
    return replace(truth, truth_ns=kernel_ns[truth.cause], source="kernel")
