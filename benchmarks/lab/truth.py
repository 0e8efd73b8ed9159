"""What a thread really did in a stretch of time, by the kernel's own trace of who ran where.

Two faults at once do not add up: a quota and a neighbour together cost neither their sum nor the greater one. So the
truth is not what was injected; it is what the scheduler did. A thread is in one of five states at every moment:

- **cpu**: it ran;
- **blocked**: it slept, for whatever reason;
- **throttled**: it was ready, and off every queue because its cgroup's quota was used up;
- **crowded**: it stood in the queue of a CPU on which another thread of its own container ran;
- **contended**: it stood there while anything else had the CPU (also the microseconds an idle CPU takes to wake).

How throttling shows. Since Linux 6.18 (``throttle_cfs_rq_work`` in kernel/sched/fair.c) a thread of a throttled cgroup
is taken off its queue by itself, in the kernel, just before it returns to user space. No event says so, but the switch
away from it then bears ``R+`` (ready, and preempted inside the kernel); who is preempted in user space bears ``R``. It
is queued again when the timer of the cgroup's quota fills it up, which is an event (``sched_cfs_period_timer``).
So a wait is throttled from a switch away with ``R+`` to the last refill before its container's next real run on that
CPU. It does not matter who had the CPU meanwhile. A wait without a refill is not throttled, unless the CPU idled: an
idle CPU takes whoever is queued.

Where not to trust it: a thread preempted while it works inside the kernel bears ``R+`` too; if its container has a
quota and the wait happens to span a refill, that part of it reads as throttled. With several CPUs, what one gives back
to the others between two refills (``sched_cfs_slack_timer``) is not read: the refill before it counts. One moment is
exact to 1 µs; one whose switch was not recorded (see ``tracefs.complete``) to some 10 µs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from benchmarks.lab.tracefs import BUFFER_KIB, UNKNOWN, Event, Queued, Recording, Refill, Switch, TraceError

#: The thread that runs where nobody runs.
IDLE = 0
#: A throttled thread is picked once, to take itself off the queue. That takes a few µs; a real run takes longer.
BLIP_NS = 100_000
#: How long an idle CPU may take to wake up before the wait for it says that nobody was in its queue.
WAKING_NS = 300_000
#: A wait shorter than a tick says nothing about which timer ends the waits of a cgroup.
LONG_NS = 4_000_000

State = Literal["cpu", "ready", "blocked"]
Kind = Literal["throttled", "crowded", "contended"]
Doing = Literal["cpu", "blocked", "ready", "throttled", "crowded", "contended"]


@dataclass(frozen=True, slots=True)
class Truth:
    """A stretch of one thread's time. The five figures add up to it exactly.

    ``by`` maps a thread to the time it ran on the subject's CPUs while the subject stood ready.
    """

    cpu_ns: int
    throttled_ns: int
    crowded_ns: int
    contended_ns: int
    blocked_ns: int
    by: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A thread was in one state. Ready: in the queue of ``cpu``; ``preempted``: since a switch away with ``R+``."""

    from_ns: int
    to_ns: int
    state: State
    cpu: int
    preempted: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch with the reason of a wait."""

    from_ns: int
    to_ns: int
    doing: Doing


@dataclass(frozen=True, slots=True)
class Run:
    """A thread had a CPU."""

    from_ns: int
    to_ns: int
    pid: int


class Account:
    """Everything a recording tells, ready to be asked about any thread."""

    def __init__(self, events: Sequence[Event], from_ns: int, to_ns: int, cpus: Collection[int]) -> None:
        self.from_ns, self.to_ns, self.cpus = from_ns, to_ns, frozenset(cpus)
        seen = {event.cpu for event in events if not isinstance(event, Refill)} | self.cpus
        self.runs = {cpu: list(runs(events, cpu, from_ns, to_ns)) for cpu in seen}
        self.starts = {cpu: [run.from_ns for run in found] for cpu, found in self.runs.items()}
        self.refills: dict[str, list[int]] = defaultdict(list)
        self.named: dict[int, list[Switch | Queued]] = defaultdict(list)
        for event in events:
            match event:
                case Refill(at_ns, timer):
                    self.refills[timer].append(at_ns)
                case Queued(pid=pid):
                    self.named[pid].append(event)
                case Switch(before=before, after=after):
                    self.named[before].append(event)
                    self.named[after].append(event)
        self.refilled: dict[frozenset[int], list[int]] = {}
        self.known: dict[int, list[Stretch]] = {}

    def running(self, cpu: int, from_ns: int, to_ns: int) -> Iterator[Run]:
        """Who had a CPU between two moments, cut at them."""
        found = self.runs[cpu]
        for index in range(max(bisect_right(self.starts[cpu], from_ns) - 1, 0), len(found)):
            run = found[index]
            if run.from_ns >= to_ns:
                return
            if run.to_ns > from_ns:
                yield Run(max(run.from_ns, from_ns), min(run.to_ns, to_ns), run.pid)

    def stretches(self, pid: int) -> list[Stretch]:
        """A thread's whole history; empty if the trace never saw it."""
        if pid not in self.known:
            self.known[pid] = list(history(self.named.get(pid, ()), pid, self.from_ns, self.to_ns))
        return self.known[pid]

    def real_run(self, own: Collection[int], wait: Stretch) -> int:
        """When one of ``own`` next had the wait's CPU for more than taking itself off the queue (or the wait's end)."""
        for run in self.running(wait.cpu, wait.from_ns, wait.to_ns):
            if run.pid in own and run.to_ns - run.from_ns >= BLIP_NS:
                return run.from_ns
        return wait.to_ns

    def refills_of(self, own: Collection[int]) -> list[int]:
        """When the cgroup of these threads was refilled.

        Timers do not name their cgroup. Its own is the one that most of the long waits after an ``R+`` span, and of
        those the one whose refill comes closest before the next run.
        """
        waits = [
            (part.from_ns, self.real_run(own, part))
            for pid in own
            for part in self.stretches(pid)
            if part.state == "ready" and part.preempted and part.to_ns - part.from_ns >= LONG_NS
        ]
        ranked = []
        for timer, moments in self.refills.items():
            late = [
                to_ns - moments[index]
                for from_ns, to_ns in waits
                if (index := bisect_right(moments, to_ns) - 1) >= 0 and moments[index] >= from_ns
            ]
            if late and len(late) * 2 >= len(waits):
                ranked.append((-len(late), sorted(late)[len(late) // 2], timer))
        return self.refills[min(ranked)[2]] if ranked else []

    def throttled_until(self, wait: Stretch, own: Collection[int], refills: Sequence[int]) -> int:
        """Until when the thread was off the queue (the wait's start if it never was)."""
        if not wait.preempted:
            return wait.from_ns
        back_ns = self.real_run(own, wait)
        index = bisect_right(refills, back_ns) - 1
        if index >= 0 and refills[index] > wait.from_ns:
            return refills[index]
        idle = [run for run in self.running(wait.cpu, wait.from_ns, back_ns) if run.pid == IDLE]
        if sum(run.to_ns - run.from_ns for run in idle) >= WAKING_NS:
            return idle[-1].to_ns
        return wait.from_ns

    def waits(self, wait: Stretch, own: Collection[int], refills: Sequence[int]) -> Iterator[tuple[int, int, Kind]]:
        """One wait for a CPU, cut into why."""
        until_ns = self.throttled_until(wait, own, refills)
        if until_ns > wait.from_ns:
            yield wait.from_ns, until_ns, "throttled"
        for run in self.running(wait.cpu, until_ns, wait.to_ns):
            yield run.from_ns, run.to_ns, "crowded" if run.pid in own else "contended"

    def pieces(self, pid: int, from_ns: int, to_ns: int, own: Collection[int]) -> Iterator[Piece]:
        """A thread's time between two moments (UTC), cut into what it did; without a gap. ``own``: all threads of its
        container.

        TraceError if the trace never saw the thread, or not then, or saw it on a CPU not asked for.
        """
        if not self.from_ns <= from_ns <= to_ns <= self.to_ns:
            raise TraceError(f"expected a stretch within {self.from_ns}..{self.to_ns}, found {from_ns}..{to_ns}")
        if not self.stretches(pid):
            raise TraceError(f"the trace never saw thread {pid}: is it the number outside its container?")
        own = frozenset({*own, pid} - {IDLE})
        if own not in self.refilled:
            self.refilled[own] = self.refills_of(own)
        refills = self.refilled[own]
        for part in self.stretches(pid):
            if part.to_ns <= from_ns or part.from_ns >= to_ns:
                continue
            if part.state != "blocked" and part.cpu not in self.cpus:
                raise TraceError(f"thread {pid} was on CPU {part.cpu}, expected it on {sorted(self.cpus)} only")
            cut: Iterator[tuple[int, int, Doing]]
            if part.state == "ready":
                cut = self.waits(part, own, refills)
            else:
                cut = iter([(part.from_ns, part.to_ns, part.state)])
            for start_ns, end_ns, doing in cut:
                if max(start_ns, from_ns) < min(end_ns, to_ns):
                    yield Piece(max(start_ns, from_ns), min(end_ns, to_ns), doing)

    def of(self, pid: int, from_ns: int, to_ns: int, own: Collection[int]) -> Truth:
        """The truth about a thread between two moments (UTC). ``own``: all threads of its container.

        TraceError as ``pieces`` does.
        """
        spent: dict[str, int] = defaultdict(int)
        by: dict[int, int] = defaultdict(int)
        for piece in self.pieces(pid, from_ns, to_ns, own):
            spent[piece.doing] += piece.to_ns - piece.from_ns
            if piece.doing not in ("cpu", "blocked"):
                for cpu in self.cpus:
                    for run in self.running(cpu, piece.from_ns, piece.to_ns):
                        by[run.pid] += run.to_ns - run.from_ns
        by.pop(IDLE, None)
        return Truth(spent["cpu"], spent["throttled"], spent["crowded"], spent["contended"], spent["blocked"], dict(by))

    def held_up(self, pid: int, holder: int, from_ns: int, to_ns: int, own: Collection[int]) -> dict[str, int]:
        """Why a thread stood still between two moments (UTC), nanoseconds by kind.

        Its own waits for a CPU count and, while it was blocked, those of ``holder``, the thread that it waited for.
        Both are of one container, whose threads are ``own``. TraceError as ``pieces`` does.
        """
        kinds: dict[str, int] = defaultdict(int)
        waits = [piece for piece in self.pieces(holder, from_ns, to_ns, own) if piece.doing not in ("cpu", "blocked")]
        for piece in self.pieces(pid, from_ns, to_ns, own):
            if piece.doing == "blocked":
                for wait in waits:
                    kinds[wait.doing] += max(0, min(piece.to_ns, wait.to_ns) - max(piece.from_ns, wait.from_ns))
            elif piece.doing != "cpu":
                kinds[piece.doing] += piece.to_ns - piece.from_ns
        return dict(kinds)


def runs(events: Sequence[Event], cpu: int, from_ns: int, to_ns: int) -> Iterator[Run]:
    """Who had a CPU, without a gap. A CPU that never switched was idle."""
    at_ns, pid = from_ns, IDLE
    switches = [event for event in events if isinstance(event, Switch) and event.cpu == cpu]
    if switches:
        pid = switches[0].before
    for event in switches:
        if event.at_ns > at_ns:
            yield Run(at_ns, event.at_ns, pid)
            at_ns = event.at_ns
        pid = event.after
    if to_ns > at_ns:
        yield Run(at_ns, to_ns, pid)


def history(events: Sequence[Switch | Queued], pid: int, from_ns: int, to_ns: int) -> Iterator[Stretch]:
    """A thread's states without a gap, from the events that name it; nothing if there are none.

    What it was before the first of them follows from that one.
    """
    at_ns, cpu, preempted = from_ns, -1, False
    now: State | None = None
    for event in events:
        was: State
        then: State
        plus = False
        match event:
            case Switch(before=before, state=state) if before == pid and state == UNKNOWN:
                raise TraceError(f"the trace does not say how thread {pid} left CPU {event.cpu} at {event.at_ns}")
            case Switch(before=before, state=state) if before == pid:
                was, then, plus = "cpu", "ready" if state.startswith("R") else "blocked", state == "R+"
            case Switch():
                was, then = "ready", "cpu"
            case Queued(moved=True):
                if now is None:
                    continue  # moved before it is woken, or while it waits: the next event says which
                was, then, plus = now, now, preempted
            case Queued():
                if now not in (None, "blocked"):
                    continue  # woken before it fell asleep
                was, then = "blocked", "ready"
        if now is None:
            now, cpu = was, event.cpu
        if event.at_ns > at_ns:
            yield Stretch(at_ns, event.at_ns, now, cpu, preempted)
            at_ns = event.at_ns
        now, cpu, preempted = then, event.cpu, plus
    if now is not None and to_ns > at_ns:
        yield Stretch(at_ns, to_ns, now, cpu, preempted)


class Trace:
    """Record what all threads do; the subject's CPUs are ``cpus``. Leave the ``with`` before asking.

    Root only, Linux 6.18 or newer. TraceError says what is missing, or how many events were lost.
    """

    def __init__(self, cpus: Collection[int], buffer_kib: int = BUFFER_KIB) -> None:
        self.cpus = cpus
        self.recording = Recording(buffer_kib=buffer_kib)
        self.account: Account | None = None

    def __enter__(self) -> Self:
        self.recording.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self.recording.remove()
            return
        self.recording.stop()
        done = self.recording
        self.account = Account(done.events, done.from_ns, done.to_ns, self.cpus)

    def of(self, host_tid: int, from_ns: int, to_ns: int, own_tids: Collection[int]) -> Truth:
        """The truth about a thread between two moments (UTC ns); ``own_tids`` are its container's threads."""
        if self.account is None:
            raise TraceError("the trace still runs: leave its with block first")
        return self.account.of(host_tid, from_ns, to_ns, own_tids)
