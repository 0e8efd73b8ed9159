"""The kernel's own trace of who ran where, in an instance of our own that disturbs no other tracing.

Source: tracefs (Documentation/trace/ftrace.rst, events.rst). Times are the clock ``mono``, printed in whole
microseconds, so one moment is up to 1 µs early; they become UTC nanoseconds where they enter.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
#: An instance is named after the process that records, so that those left by processes that were killed are known.
INSTANCE = "layerline-lab-"
#: Per CPU. A switch takes about 70 bytes: enough for some 800,000 of them.
BUFFER_KIB = 64 * 1024
#: Event to its filter (0: all). The timer fills up the quota of a cgroup.
EVENTS: Mapping[str, str] = {
    "sched/sched_switch": "0",
    "sched/sched_wakeup": "0",
    "sched/sched_wakeup_new": "0",
    "sched/sched_migrate_task": "0",
    "sched/sched_stat_runtime": "0",
    "timer/hrtimer_expire_entry": "function.function == sched_cfs_period_timer",
}
#: The first kernel that throttles task by task, on the way back to user space; ``truth`` reads the sign of it.
KERNEL = (6, 18)
#: How far UTC and the monotonic clock may drift apart while a trace runs, before its times are worth nothing.
CLOCK_STEP_NS = 1_000_000


class TraceError(RuntimeError):
    """The kernel's trace cannot be had, or cannot be trusted. Says what is missing."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A CPU went from one thread to another. ``state`` is the first one's: R ready, R+ preempted inside the kernel."""

    at_ns: int
    cpu: int
    before: int
    state: str
    after: int


@dataclass(frozen=True, slots=True)
class Queued:
    """A thread was put on the queue of ``cpu``: woken, or (``moved``) taken over from another CPU."""

    at_ns: int
    cpu: int
    pid: int
    moved: bool


@dataclass(frozen=True, slots=True)
class Refill:
    """A cgroup's quota was filled up (``timer`` tells cgroups apart): its throttled threads are ready again."""

    at_ns: int
    timer: str


@dataclass(frozen=True, slots=True)
class Ran:
    """A thread has run for so long since the last such event. Says when a switch happened that was not recorded."""

    at_ns: int
    pid: int
    ran_ns: int


Event = Switch | Queued | Refill
#: The state of a thread that was switched away from, when no event says it.
UNKNOWN = "?"

# A name is up to 15 bytes of anything, so lines are anchored by widths, not by what a name cannot hold.
LINE = re.compile(r".{16}-\d+ +\[(\d+)\] \S+ +(\d+)\.(\d{6}): (\w+): (.*)")
SWITCH = re.compile(
    r"prev_comm=.{0,15} prev_pid=(\d+) prev_prio=-?\d+ prev_state=(\S+) ==> "
    r"next_comm=.{0,15} next_pid=(\d+) next_prio=-?\d+"
)
QUEUED = re.compile(r"comm=.{0,15} pid=(\d+) prio=-?\d+ (?:target_cpu|orig_cpu=\d+ dest_cpu)=(\d+)")
RAN = re.compile(r"comm=.{0,15} pid=(\d+) runtime=(\d+) \[ns\].*")
TIMER = re.compile(r"hrtimer=(\w+) function=sched_cfs_period_timer now=\d+")


def parse(text: str, utc_minus_mono_ns: int = 0) -> Iterator[Event | Ran]:
    """The events of a ``trace`` file, in order. TraceError quotes a line that is none."""
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        if (found := LINE.fullmatch(line)) is None:
            raise TraceError(f"expected an event of the trace, found {line!r}")
        cpu, seconds, microseconds, name, said = found.groups()
        at_ns = int(seconds) * 10**9 + int(microseconds) * 1_000 + utc_minus_mono_ns
        if name == "sched_switch" and (fields := SWITCH.fullmatch(said)):
            yield Switch(at_ns, int(cpu), int(fields[1]), fields[2], int(fields[3]))
        elif name.startswith(("sched_wakeup", "sched_migrate_task")) and (fields := QUEUED.fullmatch(said)):
            yield Queued(at_ns, int(fields[2]), int(fields[1]), name == "sched_migrate_task")
        elif name == "sched_stat_runtime" and (fields := RAN.fullmatch(said)):
            yield Ran(at_ns, int(fields[1]), int(fields[2]))
        elif name == "hrtimer_expire_entry" and (fields := TIMER.fullmatch(said)):
            yield Refill(at_ns, fields[1])
        else:
            raise TraceError(f"expected one of {', '.join(EVENTS)}, found {line!r}")


def complete(events: Iterable[Event | Ran]) -> list[Event]:
    """The events with the switches that were not recorded, though no buffer overran.

    Some virtual machines never record a CPU's switch away from idle. It shows: the thread that leaves the CPU is not
    the one that came. It came as long before as it says it ran since it was last seen (``sched_stat_runtime``).
    """
    found: list[Event] = []
    last: dict[int, Switch] = {}
    ran_ns: dict[int, int] = {}
    for event in events:
        if isinstance(event, Ran):
            ran_ns[event.pid] = ran_ns.get(event.pid, 0) + event.ran_ns
            continue
        if isinstance(event, Switch):
            earlier = last.get(event.cpu)
            if earlier is not None and earlier.after != event.before:
                came_ns = max(earlier.at_ns, event.at_ns - ran_ns.get(event.before, 0))
                found.append(Switch(came_ns, event.cpu, earlier.after, UNKNOWN, event.before))
            last[event.cpu] = event
            ran_ns.pop(event.before, None)
            ran_ns.pop(event.after, None)
        found.append(event)
    return sorted(found, key=lambda event: event.at_ns)


def lost(stats: Mapping[str, str]) -> None:
    """Raise TraceError, with the number per CPU, if ``per_cpu/cpu*/stats`` tell of events that were lost."""
    numbers = {
        cpu: sum(int(number) for number in re.findall(r"^(?:overrun|commit overrun|dropped events): (\d+)", text, re.M))
        for cpu, text in stats.items()
    }
    if total := sum(numbers.values()):
        where = ", ".join(f"{number} on {cpu}" for cpu, number in sorted(numbers.items()) if number)
        raise TraceError(f"the trace lost {total} events ({where}): trace for less long, or with a larger buffer")


def utc_minus_mono_ns() -> int:
    """UTC minus the monotonic clock, from the tightest of twenty readings of both."""
    best_width_ns, best_ns = 10**18, 0
    for _ in range(20):
        before_ns, utc_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after_ns - before_ns < best_width_ns:
            best_width_ns, best_ns = after_ns - before_ns, utc_ns - (before_ns + after_ns) // 2
    return best_ns


def why_not() -> str | None:
    """What this machine lacks for a trace, or None. Mounts tracefs if it is not there."""
    release = os.uname().release
    numbers = [int(number) for number in re.findall(r"\d+", release)[:2]]
    if tuple(numbers) < KERNEL:
        return f"the kernel's trace tells throttling apart since Linux {KERNEL[0]}.{KERNEL[1]}: this is {release}"
    if os.geteuid() != 0:
        return f"the kernel's trace needs root: this process runs as user {os.geteuid()}"
    if not (TRACEFS / "events").exists():
        done = subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], capture_output=True, text=True)
        if done.returncode != 0:
            return f"tracefs cannot be mounted at {TRACEFS}: {done.stderr.strip()}"
    for event in EVENTS:
        if not (TRACEFS / "events" / event).exists():
            return f"this kernel has no event {event} (looked in {TRACEFS / 'events'})"
    if not os.access(TRACEFS / "instances", os.W_OK):
        return f"no instance can be made in {TRACEFS / 'instances'}"
    return None


def remove_orphans(instances: Path, processes: Path = Path("/proc")) -> None:
    """Remove the instances of processes that are no more: their buffers hold memory until somebody does."""
    for folder in instances.glob(f"{INSTANCE}*"):
        pid = folder.name.removeprefix(INSTANCE)
        if not (pid.isdecimal() and (processes / pid).exists()):
            folder.rmdir()


class Recording:
    """From enter to exit the kernel records; then ``events`` are there. TraceError says why not."""

    def __init__(self, buffer_kib: int = BUFFER_KIB) -> None:
        self.folder = TRACEFS / "instances" / f"{INSTANCE}{os.getpid()}"
        self.buffer_kib = buffer_kib
        self.from_ns = self.to_ns = 0
        self.events: tuple[Event, ...] = ()

    def write(self, file: str, value: str) -> None:
        """One setting of the instance. TraceError names the file the kernel refused."""
        try:
            (self.folder / file).write_text(value)
        except OSError as error:
            raise TraceError(f"the kernel refused {value!r} for {self.folder / file}: {error.strerror}") from error

    def start(self) -> None:
        """Make the instance and let it record."""
        if missing := why_not():
            raise TraceError(missing)
        remove_orphans(self.folder.parent)
        try:
            self.folder.mkdir()
        except FileExistsError:
            raise TraceError(f"{self.folder} exists: this process records already") from None
        try:
            self.write("tracing_on", "0")
            self.write("trace_clock", "mono")
            self.write("options/record-tgid", "0")
            self.write("buffer_size_kb", str(self.buffer_kib))
            for event, condition in EVENTS.items():
                self.write(f"events/{event}/filter", condition)
                self.write(f"events/{event}/enable", "1")
            self.offset_ns = utc_minus_mono_ns()
            self.write("tracing_on", "1")
            self.from_ns = time.time_ns()
        except BaseException:
            self.remove()
            raise

    def stop(self) -> None:
        """Read what was recorded and remove the instance. TraceError if events were lost or the clock was set."""
        try:
            self.to_ns = time.time_ns()
            self.write("tracing_on", "0")
            step_ns = utc_minus_mono_ns() - self.offset_ns
            if abs(step_ns) > CLOCK_STEP_NS:
                raise TraceError(f"UTC moved by {step_ns} ns against the monotonic clock while the trace ran")
            lost({file.parent.name: file.read_text() for file in self.folder.glob("per_cpu/cpu*/stats")})
            text = (self.folder / "trace").read_bytes().decode("latin-1")
            self.events = tuple(complete(parse(text, self.offset_ns)))
        finally:
            self.remove()

    def remove(self) -> None:
        """Give the instance and its buffer back (the kernel disables its events with it)."""
        self.folder.rmdir()
