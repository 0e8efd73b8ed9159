"""The container's own meters over exactly one request, read from captured machines and from this one."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

import layerline.runnable as runnable_module
from layerline.account import Account
from layerline.attributes import (
    CONTAINER_CPU_PERIOD_NS,
    CONTAINER_CPU_QUOTA_NS,
    CONTAINER_IO_PRESSURE_NS,
    CONTAINER_MEMORY_PRESSURE_NS,
    CONTAINER_RUNNABLE_NS,
    CONTAINER_THROTTLED_NS,
    CONTAINER_THROTTLED_PERIODS,
    CONTAINER_USAGE_NS,
)
from layerline.cgroup import Cgroup, parse_mounts, parse_paths
from layerline.meters import Meters, some_total
from layerline.quota import keyed
from layerline.runnable import Runnable
from wrapper.conftest import burn

CAPTURED = Path(__file__).parent / "captured"
MS = 1_000_000
V2_SCOPE = "docker-4f2a9c1d7be35f60812e94ab3c6d5f7e8091a2b3c4d5e6f708192a3b4c5d6e7f.scope"


def hybrid(root: Path) -> Cgroup:
    inside = CAPTURED / "cgroup-hybrid-kernel-6.18/inside"
    return Cgroup(parse_paths((inside / "cgroup").read_text()), parse_mounts((inside / "mountinfo").read_text()), root)


def v2(root: Path) -> Cgroup:
    mounts = parse_mounts("30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw")
    return Cgroup({"": f"/system.slice/{V2_SCOPE}"}, mounts, root)


def over_two_seconds(machine: str, cgroup: Callable[[Path], Cgroup], folder: Path) -> dict[str, int | str]:
    """What the meters gained between the two captures, as a container's own."""
    shutil.copytree(CAPTURED / machine / "first", folder, dirs_exist_ok=True)
    meters = Meters(cgroup(folder), contained=True)
    now = time.time_ns()
    begun = meters.begin(now)
    for after in (CAPTURED / machine / "second").rglob("*"):
        if after.is_file():
            (folder / after.relative_to(CAPTURED / machine / "second")).write_bytes(after.read_bytes())
    gained = dict(meters.gained(begun, now + 2_000 * MS))
    meters.forked()  # closes its files
    return gained


def test_a_hybrid_container_s_meters(tmp_path: Path) -> None:
    """On v1 the throttled time is in nanoseconds, the CPU time is cpuacct's, and there is no pressure to be had."""
    gained = over_two_seconds("cgroup-hybrid-kernel-6.18", hybrid, tmp_path)
    assert gained.pop(CONTAINER_RUNNABLE_NS, 0) >= 0
    assert gained == {
        CONTAINER_THROTTLED_NS: 808_084_512 - 183_037_752,
        CONTAINER_THROTTLED_PERIODS: 19 - 7,
        CONTAINER_CPU_QUOTA_NS: 20 * MS,
        CONTAINER_CPU_PERIOD_NS: 100 * MS,
        CONTAINER_USAGE_NS: 561_946_464 - 211_813_807,
    }


def test_a_v2_container_s_meters(tmp_path: Path) -> None:
    """On v2 microseconds become nanoseconds once, and pressure is there."""
    gained = over_two_seconds("cgroup-v2-kernel-6.1", v2, tmp_path)
    second = (CAPTURED / "cgroup-v2-kernel-6.1/second/sys/fs/cgroup/system.slice" / V2_SCOPE / "cpu.stat").read_bytes()
    throttled = keyed(b"throttled_usec", 1_000)(second)
    assert throttled is not None
    assert gained[CONTAINER_THROTTLED_NS] == throttled - 2_844_585_000 > 0
    assert gained[CONTAINER_THROTTLED_PERIODS] > 0
    assert (gained[CONTAINER_CPU_QUOTA_NS], gained[CONTAINER_CPU_PERIOD_NS]) == (20 * MS, 100 * MS)
    assert gained[CONTAINER_USAGE_NS] > 0
    assert gained[CONTAINER_IO_PRESSURE_NS] >= 0
    assert gained[CONTAINER_MEMORY_PRESSURE_NS] >= 0


def test_the_root_cgroup_is_charged_to_nobody(tmp_path: Path) -> None:
    """A process in the machine's root cgroup gets no throttled time and no pressure; its CPU time is its own."""
    shutil.copytree(CAPTURED / "cgroup-v2-kernel-6.1/first/sys/fs/cgroup/system.slice" / V2_SCOPE, tmp_path / "root")
    (tmp_path / "root/cgroup.events").unlink()  # only the root has none
    cgroup = Cgroup({"": "/"}, parse_mounts("30 23 0:26 / /root ro - cgroup2 cgroup rw"), tmp_path)
    meters = Meters(cgroup, contained=False)
    used = time.process_time_ns()
    begun = meters.begin(time.time_ns())
    burn(0.01)
    gained = dict(meters.gained(begun, time.time_ns()))
    used = time.process_time_ns() - used
    assert set(gained) <= {CONTAINER_USAGE_NS, CONTAINER_RUNNABLE_NS}
    assert 10 * MS <= gained[CONTAINER_USAGE_NS] <= used


def test_a_unit_s_quota_counts_and_its_neighbours_do_not(tmp_path: Path) -> None:
    """A plain process in a cgroup of its own can be throttled; CPU time is the process's, not the unit's."""
    shutil.copytree(CAPTURED / "cgroup-v2-kernel-6.1/first", tmp_path, dirs_exist_ok=True)
    meters = Meters(v2(tmp_path), contained=False)
    used = time.process_time_ns()
    gained = dict(meters.gained(meters.begin(time.time_ns()), time.time_ns()))
    assert gained[CONTAINER_THROTTLED_NS] == 0
    assert gained[CONTAINER_USAGE_NS] <= time.process_time_ns() - used
    meters.forked()


def test_pressure_that_is_switched_off_is_absent(tmp_path: Path) -> None:
    """A file that is there and cannot be read costs its own figure, nothing else."""
    shutil.copytree(CAPTURED / "cgroup-v2-kernel-6.1/first", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "sys/fs/cgroup/system.slice" / V2_SCOPE / "io.pressure"
    file.unlink()
    file.mkdir()  # opens, and reading it fails, as with psi=0
    meters = Meters(v2(tmp_path), contained=True)
    gained = dict(meters.gained(meters.begin(time.time_ns()), time.time_ns()))
    assert CONTAINER_IO_PRESSURE_NS not in gained
    assert gained[CONTAINER_THROTTLED_NS] == 0
    meters.forked()


def test_throttled_time_before_the_handler_began_is_the_request_s(tmp_path: Path) -> None:
    """From the last request's end before its arrival, if that is at most 5 s ago; all else from the handler's start."""
    shutil.copytree(CAPTURED / "cgroup-v2-kernel-6.1/first", tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "sys/fs/cgroup/system.slice" / V2_SCOPE
    meters = Meters(v2(tmp_path), contained=True)
    now = 10**18

    def throttled(usec: int) -> None:
        (folder / "cpu.stat").write_text(f"usage_usec {usec}\nthrottled_usec {usec}\n")

    def gained(begun: object, at: int) -> tuple[int | str, int | str]:
        found = dict(meters.gained(begun, at))
        return found[CONTAINER_THROTTLED_NS], found[CONTAINER_USAGE_NS]

    throttled(1_000)
    earlier = meters.begin(now)
    throttled(2_000)
    assert gained(earlier, now + 10 * MS) == (1 * MS, 1 * MS)  # ends 10 ms in
    throttled(5_000)
    begun = meters.begin(now + 100 * MS)
    throttled(6_000)
    # It arrived before that end: what the other was throttled is not its own.
    assert meters.since(begun, now + 9 * MS) is begun
    # It arrived after it, and lay there while the container was throttled for 3 ms.
    assert gained(meters.since(begun, now + 20 * MS), now + 110 * MS) == (4 * MS, 1 * MS)
    # The last end is too long ago to stand for the arrival.
    throttled(9_000)
    late = meters.begin(now + 5_200 * MS)
    assert meters.since(late, now + 5_150 * MS) is late
    # Of several the last before the arrival.
    throttled(9_500)
    assert gained(late, now + 5_210 * MS) == (MS // 2, MS // 2)
    throttled(10_000)
    last = meters.begin(now + 5_300 * MS)
    assert gained(meters.since(last, now + 5_250 * MS), now + 5_310 * MS) == (MS // 2, 0)
    meters.forked()


def test_some_and_full_are_told_apart() -> None:
    """Only *some* is read; the CPU's ``full`` line alone gives nothing."""
    assert some_total(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=7\n") == 12_000
    assert some_total(b"full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n") is None
    assert keyed(b"throttled_usec", 1_000)(b"usage_usec 5\nuser_usec 2\n") is None


# ---- on spans


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    provider = TracerProvider(shutdown_on_exit=False)
    kept = InMemorySpanExporter()
    provider.add_span_processor(Account(Meters(Cgroup.of_this_process(), contained=False)))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    kept.tracer = provider.get_tracer("tests")  # type: ignore[attr-defined]
    yield kept
    provider.shutdown()


def test_entry_spans_alone_carry_meters(exporter: InMemorySpanExporter) -> None:
    """A root, or a span whose parent is in another process, is an entry; a child within the process is not."""
    tracer = exporter.tracer  # type: ignore[attr-defined]
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    with (
        tracer.start_as_current_span("root"),
        tracer.start_as_current_span("child"),
        tracer.start_as_current_span("called", context=set_span_in_context(NonRecordingSpan(remote))),
    ):
        burn(0.01)
    found = {span.name: span.attributes for span in exporter.get_finished_spans()}
    assert found["root"][CONTAINER_USAGE_NS] >= 10 * MS
    assert found["called"][CONTAINER_USAGE_NS] >= 10 * MS
    assert CONTAINER_USAGE_NS not in found["child"]


def test_two_busy_threads_are_two_runnable_threads(exporter: InMemorySpanExporter) -> None:
    """Over a request beside one other busy thread, runnable time is that of both."""
    tracer = exporter.tracer  # type: ignore[attr-defined]
    stop, data = threading.Event(), bytes(1 << 20)

    def other() -> None:
        while not stop.is_set():
            hashlib.sha256(data).digest()  # lets the interpreter lock go: both run at once

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with tracer.start_as_current_span("root"):
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                hashlib.sha256(data).digest()
    finally:
        stop.set()
        thread.join()
    (span,) = exporter.get_finished_spans()
    length = span.end_time - span.start_time
    # Both are ready or run all the time, but for the interpreter's lock; other tests' threads sleep.
    assert 1.2 * length < span.attributes[CONTAINER_RUNNABLE_NS] < 2.5 * length


# ---- runnable


def test_a_short_window_is_scaled_from_the_last_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests shorter than the space between readings share them, at their pace."""
    values = iter(range(0, 1_000 * MS, MS // 2))  # half a CPU, if read every millisecond
    monkeypatch.setattr(runnable_module, "value_of", lambda file: next(values))
    monkeypatch.setattr(Runnable, "_look", lambda self, now: self._add(os.getpid(), threading.get_native_id(), 0))
    runnable = Runnable(None)
    space = 4 * MS
    for now in range(10**18, 10**18 + 20 * space, space):
        before = runnable.before(now)
        assert before is not None
        assert before.at == now
    gained = runnable.gained(before, now, now + MS)
    assert gained == MS // 8  # half a millisecond in four
    runnable.forked()


def test_too_many_threads_are_no_answer(tmp_path: Path) -> None:
    """Above 64 threads the cost would not be bounded: the figure is absent."""
    for tid in range(100, 170):
        (tmp_path / f"proc/{os.getpid()}/task/{tid}").mkdir(parents=True)
        (tmp_path / f"proc/{os.getpid()}/task/{tid}/schedstat").write_text("5 5 1\n")
    runnable = Runnable(None)
    runnable._proc = tmp_path / "proc"
    begun = runnable.before(time.time_ns())
    assert begun is None
    assert runnable.gained(begun, 0, 10) is None
    runnable.forked()


def test_threads_that_end_keep_what_they_did(tmp_path: Path) -> None:
    """A thread that is gone takes nothing away: the sum never falls. One that is new adds what it did since."""
    task = tmp_path / f"proc/{os.getpid()}/task"

    def write(tid: int, cpu: int, wait: int) -> None:
        (task / str(tid)).mkdir(parents=True, exist_ok=True)
        (task / str(tid) / "schedstat").write_text(f"{cpu} {wait} 1\n")

    write(1, 100 * MS, 0)
    runnable = Runnable(None)
    runnable._proc = tmp_path / "proc"
    now = time.time_ns()
    first = runnable.before(now)
    assert first is not None
    write(1, 110 * MS, 5 * MS)
    write(2, 3 * MS, 1 * MS)
    second = runnable.before(now + 200 * MS)
    assert second is not None
    assert second.total - first.total == 19 * MS
    shutil.rmtree(task / "1")
    third = runnable.before(now + 400 * MS)
    assert third is not None
    assert third.total == second.total
    runnable.forked()


def test_the_wrapper_s_own_threads_are_left_out(tmp_path: Path) -> None:
    """Threads named as ours do not count, whichever process they are in; one that is named late stops counting."""
    task = tmp_path / f"proc/{os.getpid()}/task"

    def write(tid: int, comm: str, ns: int) -> None:
        (task / str(tid)).mkdir(parents=True, exist_ok=True)
        (task / str(tid) / "comm").write_text(f"{comm}\n")
        (task / str(tid) / "schedstat").write_text(f"{ns} 0 1\n")

    write(1, "gunicorn", MS)
    write(2, "layerline-watch", MS)
    write(3, "python", MS)  # the exporter, not named yet
    runnable = Runnable(None)
    runnable._proc = tmp_path / "proc"
    now = time.time_ns()
    first = runnable.before(now)
    write(3, "layerline-send", MS)
    second = runnable.before(now + 200 * MS)
    for tid, comm in ((1, "gunicorn"), (2, "layerline-watch"), (3, "layerline-send")):
        write(tid, comm, 11 * MS)
    third = runnable.before(now + 400 * MS)
    assert first is not None
    assert second is not None
    assert third is not None
    assert (second.total - first.total, third.total - second.total) == (0, 10 * MS)
    runnable.forked()
