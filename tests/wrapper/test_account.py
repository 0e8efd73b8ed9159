"""The thread's own account of a span: whose time is whose, and what is honestly not measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import layerline.account as account_module
import layerline.thread as thread_module
from layerline import attributes as names
from layerline.account import Account
from layerline.attributes import (
    ACCOUNT,
    ACCOUNT_REASON,
    BLKIO_NS,
    CPU_NS,
    GC_NS,
    INVOLUNTARY_SWITCHES,
    MAJOR_FAULTS,
    RUNQUEUE_NS,
    SLICES,
    SYSTEM_NS,
    THREAD_ID,
    VOLUNTARY_SWITCHES,
)
from layerline.thread import Thread, merged, sliced
from profiles import examples
from wrapper.conftest import Traced, Used, burn, tracing, used_by_this_thread

MS = 1_000_000


@pytest.fixture
def traced(extension: Any) -> Iterator[Traced]:
    """In Python, and with the extension."""
    with tracing(Account(extension=extension)) as traced:
        yield traced


def reason(traced: Traced, name: str) -> tuple[object, object]:
    figures = traced.figures(name)
    return figures.get(ACCOUNT), figures.get(ACCOUNT_REASON)


def length(traced: Traced, name: str) -> int:
    span = traced.spans()[name]
    return (span.end_time or 0) - (span.start_time or 0)


# ---- what is measured


def test_a_busy_loop_is_on_cpu(traced: Traced) -> None:
    """A span that burns 50 ms of CPU says so."""
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("busy"):
        burn(0.05)
    traced.assert_charged(used, {"busy": 50})
    assert reason(traced, "busy") == ("thread", None)


def test_a_sleep_is_not_on_cpu(traced: Traced) -> None:
    """A span that sleeps uses next to no CPU, does not wait for a core, and switched voluntarily."""
    with traced.tracer.start_as_current_span("asleep"):
        time.sleep(0.05)
    figures = traced.figures("asleep")
    assert figures[CPU_NS] < length(traced, "asleep") / 2
    assert figures[VOLUNTARY_SWITCHES] >= 1


def test_waiting_for_a_core_is_seen(traced: Traced) -> None:
    """A thread that shares one core with a busy process waits for about as long as it runs."""
    import os

    cores = os.sched_getaffinity(0)
    core = min(cores)
    rival = os.fork()
    if rival == 0:
        os.sched_setaffinity(0, {core})
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass
        os._exit(0)
    try:
        os.sched_setaffinity(0, {core})
        with traced.tracer.start_as_current_span("crowded"):
            burn(0.1)
    finally:
        os.sched_setaffinity(0, cores)
        os.kill(rival, 9)
        os.waitpid(rival, 0)
    figures = traced.figures("crowded")
    assert figures[RUNQUEUE_NS] > 20 * MS
    # Between a span's time stamp and the reading that goes with it the rival may have a turn.
    assert figures[CPU_NS] + figures[RUNQUEUE_NS] == pytest.approx(length(traced, "crowded"), rel=0.5)
    assert figures[INVOLUNTARY_SWITCHES] >= 1


def test_own_time_excludes_children(traced: Traced) -> None:
    """What a child does is the child's alone."""
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("parent"):
        burn(0.02)
        with traced.tracer.start_as_current_span("child"):
            burn(0.03)
        burn(0.01)
    traced.assert_charged(used, {"parent": 30, "child": 30})


@pytest.mark.usefixtures("never_late")
def test_slices_tile_with_the_spans(traced: Traced) -> None:
    """A parent's slices and its child's span fill the parent without gap or overlap, and carry all of its CPU."""
    with traced.tracer.start_as_current_span("parent"):
        burn(0.002)
        with traced.tracer.start_as_current_span("child"):
            burn(0.002)
        burn(0.002)
    parent, child = traced.spans()["parent"], traced.spans()["child"]
    slices = traced.figures("parent")[SLICES]
    offset = (child.start_time or 0) - (parent.start_time or 0)
    end = (child.end_time or 0) - (parent.start_time or 0)
    assert slices[0] == 0
    assert slices[1] == offset
    assert slices[4] == end
    assert slices[4] + slices[5] == length(traced, "parent")
    assert slices[2] + slices[6] == traced.figures("parent")[CPU_NS]
    assert traced.figures("child")[SLICES][:2] == (0, length(traced, "child"))


def test_many_children_leave_sixteen_slices(traced: Traced) -> None:
    """However many children a span has, it exports at most 16 slices, ordered, inside itself, with all of its CPU."""
    with traced.tracer.start_as_current_span("parent"):
        for _ in range(200):
            with traced.tracer.start_as_current_span("child"):
                pass
    slices = traced.figures("parent")[SLICES]
    assert len(slices) == 64
    ends = [0]
    for i in range(0, 64, 4):
        assert slices[i] >= ends[-1]
        ends.append(slices[i] + slices[i + 1])
    assert ends[-1] <= length(traced, "parent")
    assert sum(slices[2::4]) == traced.figures("parent")[CPU_NS]


def test_garbage_collection_is_charged_to_the_span_on_top(traced: Traced) -> None:
    """The CPU time of a collection during a span is part of it, and is named."""
    with traced.tracer.start_as_current_span("collects"):
        rubbish = [[i] for i in range(200_000)]
        gc.collect()
    with traced.tracer.start_as_current_span("idle"):
        pass
    del rubbish
    assert traced.figures("collects")[GC_NS] > MS / 10
    assert traced.figures("idle")[GC_NS] == 0


def test_system_time_is_seen(traced: Traced) -> None:
    """Time in the kernel counts as system time, and is CPU time too."""
    with traced.tracer.start_as_current_span("kernel"), open("/dev/zero", "rb") as zero:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            zero.read(1 << 20)
    figures = traced.figures("kernel")
    assert figures[SYSTEM_NS] > 5 * MS
    assert figures[MAJOR_FAULTS] == 0


def test_the_thread_is_named_as_the_kernel_names_it(traced: Traced) -> None:
    """``thread.id`` is the native id, so that the machine's own readings can be joined."""
    with traced.tracer.start_as_current_span("here"):
        pass
    assert traced.figures("here")[THREAD_ID] == threading.get_native_id()


def test_every_thread_has_a_stack_of_its_own(traced: Traced) -> None:
    """Spans that are open at the same time on several threads are each charged for their own thread."""

    def work(milliseconds: int) -> Used:
        with used_by_this_thread() as used, traced.tracer.start_as_current_span(f"worked {milliseconds}"):
            burn(milliseconds / 1_000)
        return used

    with used_by_this_thread() as waited, traced.tracer.start_as_current_span("waits"), ThreadPoolExecutor(3) as pool:
        worked = list(pool.map(work, (10, 20, 30)))
    for milliseconds, used in zip((10, 20, 30), worked, strict=True):
        traced.assert_charged(used, {f"worked {milliseconds}": milliseconds})
    traced.assert_charged(waited, {"waits": 0})


def test_an_idle_thread_charges_nobody(traced: Traced) -> None:
    """What a thread does between two requests belongs to neither."""
    with used_by_this_thread() as used:
        with traced.tracer.start_as_current_span("first"):
            pass
        burn(0.02)
        with traced.tracer.start_as_current_span("second"):
            pass
    traced.assert_charged(used, {"first": 0, "second": 0}, elsewhere_ms=20)


# ---- what is not measured


def test_a_span_that_outlives_its_parent_is_not_measured(traced: Traced) -> None:
    """Spans that overlap on one thread are both left out, and what follows is measured again."""
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("outer"):
        first = traced.tracer.start_span("first")
        second = traced.tracer.start_span("second")
        first.end()
        burn(0.01)
        second.end()
        with traced.tracer.start_as_current_span("after"):
            burn(0.01)
    assert reason(traced, "first") == ("none", "ended_out_of_order")
    assert reason(traced, "second") == ("none", "ended_out_of_order")
    assert CPU_NS not in traced.figures("second")
    traced.assert_charged(used, {"outer": 10, "after": 10})


def test_a_span_that_ends_on_another_thread_is_not_measured(traced: Traced) -> None:
    """A thread hop is named, and the thread it came from is measured on."""
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("outer"):
        hopper = traced.tracer.start_span("hops")
        thread = threading.Thread(target=hopper.end)
        thread.start()
        thread.join()
        with traced.tracer.start_as_current_span("after"):
            burn(0.01)
        burn(0.01)
    assert reason(traced, "hops") == ("none", "thread_hop")
    assert reason(traced, "outer") == ("thread", None)
    traced.assert_charged(used, {"after": 10, "outer": 10})


def test_a_span_left_open_does_not_stop_the_others(traced: Traced) -> None:
    """A thousand spans that nobody ends do not pile up, and the next one is measured."""
    kept = [traced.tracer.start_span("forgotten") for _ in range(1_000)]
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("next"):
        burn(0.01)
    assert len(traced.account._threads.thread.stack) <= 256
    traced.assert_charged(used, {"next": 10})
    del kept


@pytest.mark.parametrize("which", ["start", "end"])
def test_an_explicit_time_is_not_measured(traced: Traced, which: str) -> None:
    """A start or end that lies more than 1 ms from now is somebody else's story."""
    before = time.time_ns() - 5 * MS
    span = traced.tracer.start_span("told", start_time=before if which == "start" else None)
    span.end(time.time_ns() + 60_000 * MS if which == "end" else None)
    assert reason(traced, "told") == ("none", "explicit_time")


def test_an_explicit_time_that_is_now_is_measured(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask's instrumentation passes the moment at which the request came in, a little earlier: that is now."""
    came_in = time.time_ns() - MS // 10
    with monkeypatch.context() as patched:
        patched.setattr(account_module, "time_ns", lambda: came_in + MS // 10)
        span = traced.tracer.start_span("request", start_time=came_in)
    burn(0.01)
    span.end()
    assert reason(traced, "request") == ("thread", None)
    offset, longest = traced.figures("request")[SLICES][:2]
    assert offset >= MS // 10
    assert offset + longest <= length(traced, "request")


def test_a_request_noted_when_it_came_in_is_measured_from_there(traced: Traced) -> None:
    """However long after its arrival its span is opened, all of the thread's time since is the request's."""
    with traced.tracer.start_as_current_span("before"):
        pass
    with used_by_this_thread() as used:
        came_in = traced.account.now()
        burn(0.02)
        span = traced.tracer.start_span("request", start_time=came_in)
        burn(0.01)
        span.end()
    late = traced.tracer.start_span("noted too long ago", start_time=came_in)
    late.end()
    assert reason(traced, "request") == ("thread", None)
    traced.assert_charged(used, {"request": 30})
    assert traced.figures("request")[SLICES][0] == 0
    assert reason(traced, "noted too long ago") == ("none", "explicit_time")


def test_a_thread_that_lost_the_cpu_after_the_time_stamp_is_measured(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a time that was given explicitly counts as explicit: a pause right after the stamp does not."""
    real = time.time_ns
    monkeypatch.setattr(account_module, "time_ns", lambda: real() + 80 * MS)
    if traced.account._hooks is not None:
        traced.account._hooks.ahead_ns = 80 * MS
    with traced.tracer.start_as_current_span("throttled"):
        pass
    assert reason(traced, "throttled") == ("thread", None)
    slices = traced.figures("throttled")[SLICES]
    assert all(number >= 0 for number in slices)


@pytest.mark.parametrize("lost_at", ["start", "end"])
def test_a_wait_after_the_time_stamp_is_that_of_the_span_then_on_top(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, lost_at: str
) -> None:
    """A thread that loses its core between a time stamp and the reading that goes with it waits in what comes next."""
    if traced.account._hooks is not None:
        pytest.skip("the extension asks the kernel, which cannot be made to say this")
    real, waited, switches = thread_module.getrusage, 0, 0
    loses_its_core = False

    def getrusage(who: int) -> tuple[float, ...]:
        nonlocal loses_its_core, waited, switches
        if loses_its_core:
            loses_its_core = False
            time.sleep(0.02)
            waited += 20 * MS
        switches += 1
        return (*real(who)[:15], switches)

    with traced.tracer.start_as_current_span("entry"):
        thread = traced.account._threads.thread
        schedstat = SimpleNamespace(read=lambda: b"1 %d 1" % waited, close=lambda: None)
        monkeypatch.setattr(thread, "schedstat", schedstat)
        monkeypatch.setattr(thread, "wait", 0)
        monkeypatch.setattr(thread_module, "getrusage", getrusage)
        time.sleep(0.001)
        loses_its_core = lost_at == "start"
        with traced.tracer.start_as_current_span("call"):
            time.sleep(0.001)
            loses_its_core = lost_at == "end"
        time.sleep(0.001)
    expected = (20 * MS, 0) if lost_at == "start" else (0, 20 * MS)
    figures = (traced.figures("call")[RUNQUEUE_NS], traced.figures("entry")[RUNQUEUE_NS])
    assert figures == pytest.approx(expected, abs=MS)  # the clock went on between the two


def test_the_parent_of_an_explicit_span_is_not_charged_for_it(traced: Traced) -> None:
    """An unmeasured span still keeps its own time away from its parent."""
    with used_by_this_thread() as used, traced.tracer.start_as_current_span("parent"):
        span = traced.tracer.start_span("told", start_time=time.time_ns() - 5 * MS)
        burn(0.02)
        span.end()
    traced.assert_charged(used, {"parent": 0}, elsewhere_ms=20)


def test_a_span_opened_in_a_generator_is_not_measured(traced: Traced) -> None:
    """A generator's span is never charged with its consumer's work; the consumer is."""

    def stream() -> Iterator[int]:
        with traced.tracer.start_as_current_span("streams"):
            yield 1
            yield 2

    with used_by_this_thread() as used, traced.tracer.start_as_current_span("consumes"):
        for _ in stream():
            burn(0.01)
    assert reason(traced, "streams") == ("none", "generator")
    traced.assert_charged(used, {"consumes": 20})


def test_a_span_started_by_hand_in_a_generator_is_not_measured(traced: Traced) -> None:
    """It makes no difference how the generator opens its span."""

    def stream() -> Iterator[int]:
        span = traced.tracer.start_span("streams")
        yield 1
        span.end()

    list(stream())
    assert reason(traced, "streams") == ("none", "generator")


def test_a_context_manager_helper_is_measured(traced: Traced) -> None:
    """A helper made with ``@contextmanager`` is a generator that is held open on purpose: its span is measured."""

    @contextlib.contextmanager
    def helper() -> Iterator[None]:
        with traced.tracer.start_as_current_span("helped"):
            yield

    with used_by_this_thread() as used, helper():
        burn(0.01)
    traced.assert_charged(used, {"helped": 10})


def test_a_context_manager_helper_inside_a_generator_is_not_measured(traced: Traced) -> None:
    """The helper passes the question on to whoever uses it."""

    @contextlib.contextmanager
    def helper() -> Iterator[None]:
        with traced.tracer.start_as_current_span("helped"):
            yield

    def stream() -> Iterator[int]:
        with helper():
            yield 1

    list(stream())
    assert reason(traced, "helped") == ("none", "generator")


def test_a_decorated_function_is_measured(traced: Traced) -> None:
    """``@tracer.start_as_current_span`` on a function measures each call."""

    @traced.tracer.start_as_current_span("decorated")
    def work() -> None:
        burn(0.01)

    with used_by_this_thread() as used:
        work()
    traced.assert_charged(used, {"decorated": 10})


def test_spans_in_tasks_that_are_not_seen_are_not_measured(traced: Traced) -> None:
    """Spans on an event loop interleave: where the tasks' steps are not seen, each says that it is not measured."""

    async def handle(name: str) -> None:
        with traced.tracer.start_as_current_span(name):
            await asyncio.sleep(0.001)

    async def main() -> None:
        await asyncio.gather(handle("one"), handle("two"))

    asyncio.run(main())
    assert reason(traced, "one") == ("none", "coroutine")
    assert reason(traced, "two") == ("none", "coroutine")


def test_spans_in_greenlets_are_not_measured(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greenlets share a thread, so theirs is nobody's account; the thread's own greenlet is measured."""
    here = SimpleNamespace(parent=None)
    there = SimpleNamespace(parent=here)
    for name, current in (("own", here), ("green", there)):
        monkeypatch.setitem(
            __import__("sys").modules, "greenlet", SimpleNamespace(getcurrent=lambda current=current: current)
        )
        with traced.tracer.start_as_current_span(name):
            pass
    assert reason(traced, "own") == ("thread", None)
    assert reason(traced, "green") == ("none", "greenlet")


def test_a_real_greenlet_is_not_measured(traced: Traced) -> None:
    """The same with the real library, where it is installed."""
    greenlet = pytest.importorskip("greenlet")

    def work() -> None:
        with traced.tracer.start_as_current_span("green"):
            pass

    greenlet.greenlet(work).switch()
    assert reason(traced, "green") == ("none", "greenlet")


def test_an_unreadable_schedstat_costs_the_account_only(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not show schedstat, spans say so and carry no figure, not zeros."""

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(thread_module, "File", refuse)
    with traced.tracer.start_as_current_span("blind"):
        pass
    monkeypatch.undo()
    assert reason(traced, "blind") == ("none", "unreadable")
    assert not {name for name in traced.figures("blind") if name.startswith("layerline.thread.")}


def test_files_closed_by_the_application_are_survived(traced: Traced) -> None:
    """An application that closes all descriptors loses figures, not spans, and nobody else's descriptor is closed."""
    import os

    with traced.tracer.start_as_current_span("outer"):
        thread = traced.account._threads.thread
        os.close(thread.schedstat.fd)
        mine, theirs = os.pipe()  # most likely gets the number
        time.sleep(0.001)
        with traced.tracer.start_as_current_span("inner"):
            pass
    assert reason(traced, "outer") == ("none", "unreadable")
    assert reason(traced, "inner") == ("none", "unreadable")
    thread.close()
    os.fstat(mine)
    os.fstat(theirs)
    os.close(mine)
    os.close(theirs)


# ---- block I/O


def test_block_io_delay_is_absent_where_the_kernel_does_not_keep_it(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``kernel.task_delayacct`` off its 0 is false, so it is left out."""
    monkeypatch.setattr(traced.account, "_delays", False)
    with traced.tracer.start_as_current_span("reads"):
        time.sleep(0.006)
    assert BLKIO_NS not in traced.figures("reads")


def test_block_io_delay_goes_to_who_waited(monkeypatch: pytest.MonkeyPatch, extension: Any) -> None:
    """Where the kernel keeps it, each span gets what grew while it slept on top, never more than it slept."""
    monkeypatch.setattr(account_module, "delays_kept", lambda: True)
    delay = [0]
    monkeypatch.setattr(Thread, "read_blkio", lambda self: delay[0])
    account = Account(extension=extension)
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(account)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")

    def wait(seconds: float, grows: int) -> None:
        time.sleep(seconds)
        delay[0] += grows

    with tracer.start_as_current_span("entry"):
        wait(0.020, 10 * MS)
        with tracer.start_as_current_span("long"):
            wait(0.010, 990 * MS)
        monkeypatch.setattr(account_module, "_LONG_NS", 3_600_000 * MS)  # whatever the load, the next is short
        if extension is not None:
            account._hooks.long_ns = 3_600_000 * MS
        with tracer.start_as_current_span("short"):
            wait(0.002, 0)
    provider.shutdown()
    found = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    lengths = {span.name: (span.end_time or 0) - (span.start_time or 0) for span in exporter.get_finished_spans()}
    assert found["entry"][BLKIO_NS] == 10 * MS
    assert 9 * MS < found["long"][BLKIO_NS] <= lengths["long"]
    assert BLKIO_NS not in found["short"]


# ---- the identities


def test_every_figure_is_in_the_contract(traced: Traced) -> None:
    """What a span carries beside its own attributes has a name in ``layerline.attributes`` and is not negative."""
    with traced.tracer.start_as_current_span("span"):
        pass
    known = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    figures = traced.figures("span")
    assert set(figures) <= known
    assert all(value >= 0 for value in figures.values() if isinstance(value, int))


@settings(max_examples=examples(60, 1_000))
@given(steps=st.lists(st.tuples(st.sampled_from(["start", "end", "burn"]), st.integers(0, 5)), max_size=40))
def test_no_order_of_starts_and_ends_yields_a_negative_figure(extension: Any, steps: list[tuple[str, int]]) -> None:
    """Whatever is opened and closed in whatever order: nothing negative, and own CPU never exceeds the thread's."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(Account(extension=extension))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    spent = time.thread_time_ns()
    still_open: list[Span] = []
    for step, which in steps:
        if step == "start":
            still_open.append(tracer.start_span("span"))  # type: ignore[arg-type]
        elif step == "end" and still_open:
            still_open.pop(which % len(still_open)).end()
        else:
            burn(which / 100_000)
    for span in still_open:
        span.end()
    spent = time.thread_time_ns() - spent
    provider.shutdown()
    total = 0
    for span in exporter.get_finished_spans():
        figures = dict(span.attributes or {})
        assert figures[ACCOUNT] in ("thread", "none")
        total += figures.get(CPU_NS, 0)
        numbers = [value for value in figures.values() if isinstance(value, int)]
        assert min(numbers) >= 0
        slices = figures.get(SLICES, ())
        assert len(slices) <= 64
        for offset, long in zip(slices[0::4], slices[1::4], strict=True):
            assert 0 <= offset <= offset + long <= (span.end_time or 0) - (span.start_time or 0)
    assert total <= spent


pieces = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 9), st.integers(0, 9)), max_size=80)


@given(pieces)
def test_merging_keeps_order_and_sums(steps: list[tuple[int, int, int, int]]) -> None:
    """Merged slices cover the same ground in the same order, and no CPU or wait is lost."""
    at, flat = 0, []
    for gap, long, cpu, wait in steps:
        flat += [at + gap, at + gap + long, cpu, wait]
        at += gap + long
    out = merged(flat)
    assert len(out) <= 64
    assert sum(out[2::4]) == sum(flat[2::4])
    assert sum(out[3::4]) == sum(flat[3::4])
    if flat:
        assert (out[0], out[-3]) == (flat[0], flat[-3])
    bounds = [bound for i in range(0, len(out), 4) for bound in out[i : i + 2]]
    assert bounds == sorted(bounds)


def test_the_nearest_neighbours_are_merged_first() -> None:
    """Of three pieces for two slices, the pair with the smaller gap becomes one."""
    assert merged([0, 10, 1, 1, 12, 20, 1, 1, 50, 60, 1, 1], most=2) == [0, 20, 2, 2, 50, 60, 1, 1]


def test_slices_are_clipped_to_the_span() -> None:
    """A reading that was taken a little outside the span does not put a slice there."""
    assert sliced([90, 120, 5, 1], 100, 110) == (0, 10, 5, 1)
    assert sliced([120, 130, 5, 1], 100, 110) == (10, 0, 5, 1)
    assert sliced([], 100, 110) == ()
