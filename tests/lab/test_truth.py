"""What the kernel's trace says about a thread: parsing, arithmetic, and once for real against the kernel's own sums."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lab import tracefs
from benchmarks.lab.census import Census
from benchmarks.lab.tracefs import UNKNOWN, Event, Queued, Ran, Refill, Switch, TraceError, complete, parse
from benchmarks.lab.truth import Account, Trace, Truth
from waiting import eventually

CAPTURED = (Path(__file__).parent / "captured/quota_and_neighbour.trace").read_text()
MS = 1_000_000
#: The longest tick of a kernel that serves containers (CONFIG_HZ=100).
TICK_NS = 10 * MS
SUBJECT, SIBLING, NEIGHBOUR = 11, 12, 99


def account(*events: Event, cpus: tuple[int, ...] = (0,), to_ms: int = 100) -> Account:
    return Account(events, 0, to_ms * MS, cpus)


def switch(at_ms: float, before: int, state: str, after: int, cpu: int = 0) -> Switch:
    return Switch(int(at_ms * MS), cpu, before, state, after)


def milliseconds(truth: Truth) -> dict[str, float]:
    figures = {name: getattr(truth, f"{name}_ns") for name in ("cpu", "throttled", "crowded", "contended", "blocked")}
    return {name: figure / MS for name, figure in figures.items() if figure}


def test_captured() -> None:
    """The trace of a quota, a crowd and a neighbour at once gives the CPU time and the delay that the kernel summed."""
    events = complete(parse(CAPTURED))
    from_ns, to_ns = 16671427068599, 16671797025835
    found = Account(events, 16671414 * MS, 16671797500000, (1,))
    truth = found.of(7553, from_ns, to_ns, {7553, 7554})
    ready_ns = truth.throttled_ns + truth.crowded_ns + truth.contended_ns
    assert truth.cpu_ns + ready_ns + truth.blocked_ns == to_ns - from_ns
    assert truth.cpu_ns == pytest.approx(33_435_057, rel=0.02)
    assert ready_ns == pytest.approx(296_126_535, rel=0.001)
    # Read off the trace by hand: the switches away with R+ to the refill, 25.6 + 24.1 + 41.7 + 21.6 ms.
    assert truth.throttled_ns == 25_550_000 + 24_148_000 + 41_692_000 + 21_604_000
    # While it stood in the queue; what ran while it was throttled is in ``by``, too.
    assert truth.by[7556] > truth.by[7554] >= truth.crowded_ns
    assert 0 not in truth.by


def test_names() -> None:
    """A thread's name may hold spaces, brackets and words of the trace itself."""
    line = (
        "     a [001] : 0-7       [000] d..2. 16671.416031: sched_switch: prev_comm=a [001] : 0 prev_pid=7 "
        "prev_prio=120 prev_state=R+ ==> next_comm=x prev_pid=9 next_pid=8 next_prio=-1\n"
    )
    assert list(parse(line, utc_minus_mono_ns=5)) == [Switch(16671416031005, 0, 7, "R+", 8)]


def test_unreadable() -> None:
    """A line that is no event of the trace is quoted, not skipped."""
    with pytest.raises(TraceError, match="LOST 7 EVENTS"):
        list(parse("CPU:1 [LOST 7 EVENTS]\n"))


def test_switch_not_recorded() -> None:
    """A switch away from idle that was not recorded is put where the thread's own running time says it came."""
    missed: list[Event | Ran] = [
        switch(10, SUBJECT, "S", 0),
        Queued(40 * MS, 0, SUBJECT, moved=False),
        Ran(44 * MS, SUBJECT, 4 * MS),
        Ran(46 * MS, SUBJECT, 2 * MS),
        switch(46, SUBJECT, "S", 0),
    ]
    events = complete(missed)
    assert [event for event in events if event not in missed] == [switch(40, 0, UNKNOWN, SUBJECT)]
    assert milliseconds(account(*events).of(SUBJECT, 0, 100 * MS, ())) == {"cpu": 16, "blocked": 84}
    # The time a thread ran before it was last seen is not counted again, and it did not come before the other left.
    again: list[Event | Ran] = [Ran(MS, SUBJECT, MS), switch(5, 0, "R", SUBJECT), switch(9, NEIGHBOUR, "S", 0)]
    again.append(switch(9.5, 7, "S", 0))
    inserted = [event for event in complete(again) if isinstance(event, Switch) and event.state == UNKNOWN]
    assert inserted == [switch(9, SUBJECT, UNKNOWN, NEIGHBOUR), switch(9.5, 0, UNKNOWN, 7)]
    with pytest.raises(TraceError, match=f"does not say how thread {SUBJECT} left CPU 0"):
        account(*complete(again)).of(SUBJECT, 0, 100 * MS, ())


def test_lost() -> None:
    """Lost events are an error that says how many, and where."""
    tracefs.lost({"cpu0": "entries: 9\noverrun: 0\ncommit overrun: 0\ndropped events: 0\nread events: 4\n"})
    with pytest.raises(TraceError, match=r"lost 12 events \(12 on cpu1\)"):
        tracefs.lost({"cpu0": "overrun: 0\n", "cpu1": "overrun: 9\ncommit overrun: 2\ndropped events: 1\n"})


def test_waits() -> None:
    """Behind a sibling a thread is crowded, behind anybody else contended; asleep it is blocked."""
    found = account(
        switch(10, SUBJECT, "R", SIBLING),
        switch(30, SIBLING, "R", NEIGHBOUR),
        switch(60, NEIGHBOUR, "S", SUBJECT),
        switch(70, SUBJECT, "S", 0),
        Queued(90 * MS, 0, SUBJECT, moved=False),
        switch(90.01, 0, "R", SUBJECT),
    )
    truth = found.of(SUBJECT, 5 * MS, 95 * MS, {SUBJECT, SIBLING})
    assert milliseconds(truth) == {"cpu": 19.99, "crowded": 20, "contended": 30.01, "blocked": 20}
    assert truth.by == {SIBLING: 20 * MS, NEIGHBOUR: 30 * MS}


def test_throttled_while_a_neighbour_runs() -> None:
    """From R+ to the refill a thread is throttled, whoever has the CPU; after it, it waits for the neighbour."""
    found = account(
        switch(10, SUBJECT, "R+", SIBLING),
        switch(10.005, SIBLING, "R+", NEIGHBOUR),
        Refill(50 * MS, "a"),
        switch(54, NEIGHBOUR, "R", SIBLING),
        switch(57, SIBLING, "R", SUBJECT),
    )
    truth = found.of(SUBJECT, 0, 100 * MS, {SIBLING})
    assert milliseconds(truth) == {"cpu": 53, "throttled": 40, "contended": 4, "crowded": 3}


def test_not_throttled() -> None:
    """Its look-alike: preempted in user space (R) or refilled between two waits, a thread was never throttled."""
    found = account(
        switch(10, SUBJECT, "R", NEIGHBOUR),
        Refill(13 * MS, "a"),
        switch(14, NEIGHBOUR, "R", SUBJECT),
        switch(20, SUBJECT, "R+", NEIGHBOUR),
        switch(30, NEIGHBOUR, "R", SUBJECT),
        Refill(31 * MS, "a"),
    )
    assert milliseconds(found.of(SUBJECT, 0, 100 * MS, ())) == {"cpu": 86, "contended": 14}


def test_whose_refill() -> None:
    """The timer of another cgroup ends nothing: the one closest before the next run is our own."""
    found = account(
        switch(10, SUBJECT, "R+", NEIGHBOUR),
        Refill(20 * MS, "theirs"),
        Refill(40 * MS, "ours"),
        switch(40.1, NEIGHBOUR, "R", SUBJECT),
        switch(45, SUBJECT, "R+", NEIGHBOUR),
        Refill(60 * MS, "theirs"),
        Refill(80 * MS, "ours"),
        switch(80.1, NEIGHBOUR, "R", SUBJECT),
    )
    truth = found.of(SUBJECT, 0, 100 * MS, ())
    assert (truth.throttled_ns, truth.contended_ns) == (65 * MS, 200_000)


def test_idle() -> None:
    """Nobody waits in the queue of an idle CPU: such a thread was throttled, even if no refill was seen."""
    found = account(switch(10, SUBJECT, "R+", 0), switch(70, 0, "R", NEIGHBOUR), switch(75, NEIGHBOUR, "R", SUBJECT))
    assert milliseconds(found.of(SUBJECT, 0, 100 * MS, ())) == {"cpu": 35, "throttled": 60, "contended": 5}


def test_slow_to_wake() -> None:
    """Its look-alike: a woken thread whose idle CPU is slow to come (its host had other work) is not throttled."""
    found = account(
        switch(10, SUBJECT, "S", 0),
        Queued(20 * MS, 0, SUBJECT, moved=False),
        Refill(21 * MS, "a"),
        switch(22, 0, "R", SUBJECT),
    )
    assert milliseconds(found.of(SUBJECT, 0, 100 * MS, ())) == {"cpu": 88, "blocked": 10, "contended": 2}


def test_two_cpus() -> None:
    """With two CPUs it counts who runs where the thread is queued, also after it moved; ``by`` counts both."""
    found = account(
        switch(0, NEIGHBOUR, "R", SIBLING, cpu=1),
        switch(10, SUBJECT, "R", NEIGHBOUR),
        Queued(20 * MS, 1, SUBJECT, moved=True),
        switch(30, SIBLING, "S", SUBJECT, cpu=1),
        cpus=(0, 1),
    )
    truth = found.of(SUBJECT, 0, 100 * MS, {SIBLING})
    assert milliseconds(truth) == {"cpu": 80, "contended": 10, "crowded": 10}
    assert truth.by == {SIBLING: 20 * MS, NEIGHBOUR: 20 * MS}


def test_asked_wrongly() -> None:
    """A thread, a CPU or a time that the trace does not hold is an error, never a thread that slept."""
    found = account(switch(10, SUBJECT, "R", NEIGHBOUR))
    with pytest.raises(TraceError, match="never saw thread 5"):
        found.of(5, 0, 1, ())
    with pytest.raises(TraceError, match="expected a stretch within"):
        found.of(SUBJECT, 0, 101 * MS, ())
    with pytest.raises(TraceError, match=r"was on CPU 0, expected it on \[1\] only"):
        account(switch(10, SUBJECT, "R", NEIGHBOUR), cpus=(1,)).of(SUBJECT, 0, MS, ())
    with pytest.raises(TraceError, match="still runs"):
        Trace((0,)).of(SUBJECT, 0, 1, ())


def test_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine lacks is named."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "lab", "6.17.3", "#1", "x86_64")))
    assert "since Linux 6.18: this is 6.17.3" in str(tracefs.why_not())
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "lab", "7.0.0", "#1", "x86_64")))
    monkeypatch.setattr(tracefs, "TRACEFS", tmp_path)
    (tmp_path / "events").mkdir()
    assert "no event sched/sched_switch" in str(tracefs.why_not())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TraceError, match="needs root: this process runs as user 1000"), Trace((0,)):
        pass


PIDS = st.sampled_from([0, SUBJECT, SIBLING, NEIGHBOUR])
EVENTS = st.lists(
    st.one_of(
        st.builds(Switch, st.integers(0, 50), st.just(0), PIDS, st.sampled_from(["R", "R+", "S", "D|X"]), PIDS),
        st.builds(Queued, st.integers(0, 50), st.just(0), PIDS, st.booleans()),
        st.builds(Refill, st.integers(0, 50), st.sampled_from(["a", "b"])),
    )
)


@given(events=EVENTS, cuts=st.tuples(st.integers(0, 50), st.integers(0, 50)), scale=st.sampled_from([1, MS]))
def test_adds_up(events: list[Event], cuts: tuple[int, int], scale: int) -> None:
    """Whatever the trace says, even nonsense, the five figures are the stretch exactly and none is negative."""
    first = Switch(0, 0, 0, "R", SUBJECT)
    scaled = [first, *(shifted(event, scale) for event in sorted(events, key=lambda event: event.at_ns))]
    from_ns, to_ns = sorted(cut * scale for cut in cuts)
    truth = Account(scaled, 0, 50 * scale, (0,)).of(SUBJECT, from_ns, to_ns, {SIBLING})
    figures = (truth.cpu_ns, truth.throttled_ns, truth.crowded_ns, truth.contended_ns, truth.blocked_ns)
    assert sum(figures) == to_ns - from_ns
    assert min(figures) >= 0


def shifted(event: Event, scale: int) -> Event:
    match event:
        case Switch(at_ns, cpu, before, state, after):
            return Switch(at_ns * scale, cpu, before, state, after)
        case Queued(at_ns, cpu, pid, moved):
            return Queued(at_ns * scale, cpu, pid, moved)
        case Refill(at_ns, timer):
            return Refill(at_ns * scale, timer)


def test_a_trace_that_was_left_behind_is_removed(tmp_path: Path) -> None:
    """The instance of a process that was killed goes; that of one that lives, and everybody else's, stays."""
    instances, processes = tmp_path / "instances", tmp_path / "proc"
    for folder in (f"{tracefs.INSTANCE}11", f"{tracefs.INSTANCE}12", f"{tracefs.INSTANCE}", "somebody-else"):
        (instances / folder).mkdir(parents=True)
    (processes / "11").mkdir(parents=True)
    tracefs.remove_orphans(instances, processes)
    assert {folder.name for folder in instances.iterdir()} == {f"{tracefs.INSTANCE}11", "somebody-else"}


# The subject reads its own sums while it runs: then no wait is half counted. It prints its number inside, too.
WORK = """
import os, sys, time
def sums():
    run_ns, delay_ns, _ = open("/proc/thread-self/schedstat").read().split()
    return time.time_ns(), run_ns, delay_ns
sys.stdin.readline()
first = sums()
while time.time_ns() < first[0] + 1_500_000_000:
    pass
print(*first, *sums(), flush=True)
sys.stdin.readline()
"""
BURN = "while True: pass"


@pytest.fixture
def quota() -> Iterator[Path]:
    """A cgroup of 10 ms CPU in 100 ms (v1, or v2 where the controller is there)."""
    if missing := tracefs.why_not():
        pytest.skip(f"no kernel trace here: {missing}")
    parent = next((path for path in map(Path, ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup")) if tried(path)), None)
    if parent is None:
        pytest.skip("no cgroup with a CPU quota can be made here")
    folder = parent / "layerline-test-truth"
    folder.mkdir(exist_ok=True)  # a run that was killed leaves it behind
    if (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text("10000 100000")
    else:
        (folder / "cpu.cfs_quota_us").write_text("10000")
    (folder / "below").mkdir(exist_ok=True)
    yield folder

    def removed() -> bool:
        with suppress(OSError):  # while it still holds processes
            (folder / "below").rmdir()
        with suppress(OSError):
            folder.rmdir()
        return not folder.exists()

    eventually(removed, f"the end of the processes in {folder}")


def tried(parent: Path) -> bool:
    controllers = parent / "cgroup.subtree_control"
    return (parent / "cpu.cfs_quota_us").exists() or (controllers.exists() and "cpu" in controllers.read_text().split())


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.parametrize("cpus", [{max(os.sched_getaffinity(0))}, os.sched_getaffinity(0)], ids=["one", "all"])
def test_live(quota: Path, cpus: set[int]) -> None:
    """Under a quota and beside a neighbour at once, on one CPU and on all, the trace agrees with the kernel's own sums
    within 2 %; the quota is that of the cgroup above.
    """
    python = [sys.executable, "-c"]
    with Trace(cpus) as trace:
        subject = subprocess.Popen(
            ["unshare", "--pid", "--fork", *python, WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        neighbours = [subprocess.Popen([*python, BURN]) for _ in cpus]
        assert subject.stdin is not None
        assert subject.stdout is not None
        try:
            while not (children := Path(f"/proc/{subject.pid}/task/{subject.pid}/children").read_text().split()):
                time.sleep(0.01)
            census = Census(int(children[0]))
            census.look()
            tid = census.outside[1]
            for pid in (tid, *(neighbour.pid for neighbour in neighbours)):
                os.sched_setaffinity(pid, cpus)
            (quota / "below" / "cgroup.procs").write_text(str(tid))
            throttled_before_ns = throttled(quota)
            subject.stdin.write("go\n")
            subject.stdin.flush()
            said = [int(number) for number in subject.stdout.readline().split()]
            throttled_ns = throttled(quota) - throttled_before_ns
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
            subject.communicate("end\n")
    from_ns, run_ns, delay_ns, to_ns, run_after_ns, delay_after_ns = said
    truth = trace.of(tid, from_ns, to_ns, (tid,))
    assert tid == int(children[0])
    assert truth.throttled_ns + truth.contended_ns == pytest.approx(delay_after_ns - delay_ns, rel=0.02)
    # What ``schedstat`` says of a running thread is as old as the last tick, at either end.
    assert truth.cpu_ns == pytest.approx(run_after_ns - run_ns, rel=0.02, abs=2 * TICK_NS)
    # The cgroup adds a wait when it ends, and we read it a moment before and after: one wait of a period at either end.
    assert truth.throttled_ns == pytest.approx(throttled_ns, abs=180 * MS)
    assert truth.throttled_ns > 400 * MS
    assert sum(truth.by[neighbour.pid] for neighbour in neighbours) > 100 * MS
    assert truth.crowded_ns == 0


# Each of three threads prints its number, and its sums when it begins and when it ends.
CROWD = """
import hashlib, sys, threading, time
def sums():
    run_ns, delay_ns, _ = open("/proc/thread-self/schedstat").read().split()
    return time.time_ns(), run_ns, delay_ns
def work():
    first = sums()
    while time.time_ns() < first[0] + 1_500_000_000:
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", 2_000)
    print(threading.get_native_id(), *first, *sums(), flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
sys.stdin.readline()
"""


@pytest.mark.docker
@pytest.mark.alone
def test_live_threads(quota: Path) -> None:
    """Of threads that use up a quota together on all CPUs the trace agrees with the kernel's own sums within 2 %,
    and says of each that it was throttled.
    """
    with Trace(os.sched_getaffinity(0)) as trace:
        crowd = subprocess.Popen(
            [sys.executable, "-c", CROWD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        (quota / "below" / "cgroup.procs").write_text(str(crowd.pid))
        crowd.stdin.write("go\n")
        crowd.stdin.flush()
        said = [[int(number) for number in crowd.stdout.readline().split()] for _ in range(3)]
        crowd.communicate("end\n")
    own = {crowd.pid, *(tid for tid, *_ in said)}
    for tid, from_ns, run_ns, delay_ns, to_ns, run_after_ns, delay_after_ns in said:
        truth = trace.of(tid, from_ns, to_ns, own)
        waited_ns = truth.throttled_ns + truth.crowded_ns + truth.contended_ns
        assert waited_ns == pytest.approx(delay_after_ns - delay_ns, rel=0.02)
        assert truth.cpu_ns == pytest.approx(run_after_ns - run_ns, rel=0.02, abs=2 * TICK_NS)
        assert truth.throttled_ns > 0


def throttled(cgroup: Path) -> int:
    """Source: ``cpu.stat``, ``throttled_time`` in ns (v1) or ``throttled_usec`` in µs (v2)."""
    stat = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return int(stat["throttled_time"]) if "throttled_time" in stat else int(stat["throttled_usec"]) * 1_000
