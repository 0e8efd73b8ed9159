"""Work records: what was handed to another thread under a span is a child of it, with its wait and its own account."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from layerline import work
from layerline.attributes import ACCOUNT, CPU_NS, POOL_WAIT_NS, SLICES, THREAD_ID
from waiting import PATIENCE_S
from wrapper.conftest import Traced, burn, used_by_this_thread

MS = 1_000_000
PLAIN = (ThreadPoolExecutor.submit, threading.Thread.start)


@pytest.fixture
def recorded(traced: Traced) -> Iterator[Traced]:
    provider = traced.tracer.span_processor  # type: ignore[attr-defined]

    class Provider(trace.NoOpTracerProvider):
        def get_tracer(self, *_: object, **__: object) -> trace.Tracer:
            return traced.tracer

    assert provider is not None
    work.install(traced.account, Provider())
    yield traced
    work.uninstall()
    assert (ThreadPoolExecutor.submit, threading.Thread.start) == PLAIN


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and parent.context is not None and child.parent.span_id == parent.context.span_id


def crunch() -> str:
    burn(0.03)
    return "crunched"


def lasted(span: ReadableSpan) -> int:
    return (span.end_time or 0) - (span.start_time or 0)


def test_work_of_a_pool_is_a_child_with_its_own_account(recorded: Traced) -> None:
    """The work's CPU time is the worker's, on the worker's thread, under the span that submitted it."""
    with (
        ThreadPoolExecutor(1) as pool,
        used_by_this_thread() as used,
        recorded.tracer.start_as_current_span("request"),
    ):
        assert pool.submit(crunch).result() == "crunched"
    record, figures = recorded.spans()["work crunch"], recorded.figures("work crunch")
    assert is_child(record, recorded.spans()["request"])
    assert record.kind is SpanKind.INTERNAL
    assert figures[ACCOUNT] == "thread"
    assert 30 * MS <= figures[CPU_NS] <= lasted(record) + MS
    assert figures[THREAD_ID] != recorded.figures("request")[THREAD_ID]
    recorded.assert_charged(used, {"request": 0})
    assert set(recorded.spans()) == {"request", "work crunch"}  # the pool's own thread leaves none


def test_waiting_for_the_pool_is_measured_and_left_uncovered(recorded: Traced) -> None:
    """Behind another one, work waits as long as that one runs; its slices start when it began."""
    with ThreadPoolExecutor(1) as pool, recorded.tracer.start_as_current_span("request"):
        pool.submit(time.sleep, 0.1)
        pool.submit(crunch).result()
    figures, record = recorded.figures("work crunch"), recorded.spans()["work crunch"]
    first = recorded.spans()["work sleep"]
    assert (first.end_time or 0) - MS <= (record.start_time or 0) + figures[POOL_WAIT_NS] <= (record.end_time or 0)
    assert figures[ACCOUNT] == "thread"
    assert figures[SLICES][0] >= figures[POOL_WAIT_NS]
    assert figures[SLICES][0] + figures[SLICES][1] <= lasted(record) + MS


def test_spans_of_the_work_are_its_children_and_the_worker_is_left_clean(recorded: Traced) -> None:
    """A span opened by the work hangs under its record; work submitted without a span afterwards sees no context."""

    def query() -> None:
        with recorded.tracer.start_as_current_span("query"):
            pass

    with ThreadPoolExecutor(1) as pool:
        with recorded.tracer.start_as_current_span("request"):
            pool.submit(query).result()
        assert not pool.submit(trace.get_current_span).result().is_recording()
    spans = recorded.spans()
    assert is_child(
        spans["query"], next(span for name, span in spans.items() if name.endswith("query") and name != "query")
    )


@pytest.mark.parametrize("copy", [False, True])
def test_to_thread_and_copied_contexts_are_named_by_what_runs(recorded: Traced, copy: bool) -> None:
    """``asyncio.to_thread`` and ``copy_context().run`` leave the function's name, and its spans are the record's."""

    def inside() -> str:
        with recorded.tracer.start_as_current_span("query"):
            return crunch()

    async def main() -> str:
        with recorded.tracer.start_as_current_span("request"):
            return await asyncio.to_thread(inside)

    if copy:
        with ThreadPoolExecutor(1) as pool, recorded.tracer.start_as_current_span("request"):
            assert pool.submit(functools.partial(contextvars.copy_context().run, inside)).result() == "crunched"
    else:
        assert asyncio.run(main()) == "crunched"
    spans = recorded.spans()
    record = next(span for name, span in spans.items() if name.startswith("work "))
    assert record.name.endswith("inside")
    assert is_child(record, spans["request"])
    assert is_child(spans["query"], record)


def test_what_the_work_raises_reaches_its_future_untouched(recorded: Traced) -> None:
    """The very exception comes out of ``result``; the record says its type only."""
    error = ValueError("secret")

    def fail() -> None:
        raise error

    with ThreadPoolExecutor(1) as pool, recorded.tracer.start_as_current_span("request"):
        assert pool.submit(fail).exception() is error
    record = next(span for name, span in recorded.spans().items() if name.startswith("work "))
    assert (record.status.status_code, record.status.description) == (StatusCode.ERROR, "ValueError")


def test_submit_keeps_its_signature_and_arguments(recorded: Traced) -> None:
    """Arguments called like ours pass through, and ``inspect`` sees the standard library's signature."""
    assert inspect.signature(ThreadPoolExecutor.submit) == inspect.signature(PLAIN[0])
    with ThreadPoolExecutor(1) as pool, recorded.tracer.start_as_current_span("request"):
        given = {"span": 1, "function": 2, "self": 3}
        assert pool.submit(lambda *a, **k: (a, k), 7, **given).result() == ((7,), given)


def test_without_a_span_or_suppressed_nothing_is_recorded(recorded: Traced) -> None:
    """No open span, or instrumentation suppressed: no record."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(crunch).result()
        with recorded.tracer.start_as_current_span("request"), suppress_instrumentation():
            pool.submit(crunch).result()
    assert set(recorded.spans()) == {"request"}


def test_a_thread_that_is_joined_leaves_a_record(recorded: Traced) -> None:
    """A thread started under a span is its child with its own account, and the parent of its spans."""

    def fetch() -> None:
        with recorded.tracer.start_as_current_span("query"):
            burn(0.02)
        burn(0.02)

    with recorded.tracer.start_as_current_span("request"):
        thread = threading.Thread(target=fetch)
        thread.start()
        thread.join()
    spans = recorded.spans()
    record = next(span for name, span in spans.items() if name.startswith("work "))
    assert is_child(record, spans["request"])
    assert is_child(spans["query"], record)
    assert 20 * MS <= recorded.figures(record.name)[CPU_NS] <= lasted(record) - 19 * MS  # 20 which are the query's


def ended(recorded: Traced, thread: threading.Thread, patience_s: float = PATIENCE_S) -> list[ReadableSpan]:
    """Its records: they are made a little after it has ended."""
    thread.join()
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = [span for name, span in recorded.spans().items() if name.startswith("work ")]
        if found:
            return found
        time.sleep(0.01)
    return []


def test_a_daemon_that_ends_in_time_leaves_a_record_made_afterwards(recorded: Traced) -> None:
    """It is measured like any work; its spans are not the request's."""

    def fetch() -> None:
        burn(0.02)
        with recorded.tracer.start_as_current_span("own"):
            burn(0.01)

    with recorded.tracer.start_as_current_span("request"):
        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        (record,) = ended(recorded, thread)
    figures = recorded.figures(record.name)
    assert is_child(record, recorded.spans()["request"])
    assert recorded.spans()["own"].parent is None
    assert figures[ACCOUNT] == "thread"
    assert 20 * MS <= figures[CPU_NS] <= lasted(record) + MS


def test_a_daemon_that_outlives_its_request_leaves_none(recorded: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended long after the span that started it, a background thread is nobody's work."""
    monkeypatch.setattr(work, "_AFTER_NS", 20 * MS)
    with recorded.tracer.start_as_current_span("request"):
        thread = threading.Thread(target=time.sleep, args=(0.1,), daemon=True)
        thread.start()
    assert ended(recorded, thread, 0.5) == []
    assert all(not each.stack for each in recorded.account._all)


def test_what_a_thread_raises_reaches_the_hook(recorded: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """``threading.excepthook`` sees the exception, and the record is made."""
    seen: list[object] = []
    hook: Callable[[threading.ExceptHookArgs], None] = lambda told: seen.append(told.exc_value)  # noqa: E731 - typed
    monkeypatch.setattr(threading, "excepthook", hook)
    error = ValueError("x")

    def fail() -> None:
        raise error

    with recorded.tracer.start_as_current_span("request"):
        thread = threading.Thread(target=fail)
        thread.start()
        assert len(ended(recorded, thread)) == 1
    assert seen == [error]


# ---- anyio's worker threads


def test_what_anyio_runs_in_a_thread_is_a_child(recorded: Traced) -> None:
    """A plain function that an async framework gives to a worker thread leaves a record, with its own account."""
    to_thread = pytest.importorskip("anyio.to_thread")

    async def request() -> str:
        with recorded.tracer.start_as_current_span("request"):
            return str(await to_thread.run_sync(functools.partial(crunch)))

    assert asyncio.run(request()) == "crunched"
    record, figures = recorded.spans()["work crunch"], recorded.figures("work crunch")
    assert is_child(record, recorded.spans()["request"])
    assert figures[ACCOUNT] == "thread"
    assert 30 * MS <= figures[CPU_NS] <= lasted(record) + MS  # the clocks are read one after the other
    assert set(recorded.spans()) == {"request", "work crunch"}


def test_an_endpoint_of_fastapi_s_is_named_by_its_own_name() -> None:
    """FastAPI hands over a function of its own, which calls the endpoint: that is what the record is about."""

    def call(function: Callable[..., object], arguments: dict[str, object]) -> object:
        return function(**arguments)

    call.__module__ = "fastapi.telemetry._api"
    handed = functools.partial(call, function=crunch, arguments={})
    assert work.underneath(handed, ()) == (crunch, None)
    assert work.is_the_app_s(handed)


def test_a_library_s_own_steps_in_anyio_s_threads_leave_none(recorded: Traced) -> None:
    """Reading a file piece by piece would leave a record for each piece; nor does work outside any span."""
    to_thread = pytest.importorskip("anyio.to_thread")
    anyio = pytest.importorskip("anyio")

    async def request() -> None:
        await to_thread.run_sync(crunch)
        with recorded.tracer.start_as_current_span("request"):
            async with await anyio.open_file(__file__) as file:
                await file.read(10)

    asyncio.run(request())
    assert set(recorded.spans()) == {"request"}


# ---- bodies whose pieces are made in threads


def each_on_another_thread(body: Iterator[Any], span: Any) -> list[Any]:
    """What the body gives, asked for as Starlette does: each piece on a thread of its own, in the request's context."""
    given: list[Any] = []

    def ask() -> None:
        with trace.use_span(span):
            given.append(next(body, None))

    while not given or given[-1] is not None:
        thread = threading.Thread(target=ask, daemon=True)
        work._start(thread)
        thread.join()
    return given[:-1]


def test_the_pieces_of_a_body_are_one_record(recorded: Traced) -> None:
    """Whichever threads make them: their CPU is the record's, what they open is below it, and the pauses are no CPU."""
    spent: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(3):
            begun = time.thread_time_ns()
            with recorded.tracer.start_as_current_span(f"piece {number}"):
                pass
            burn(0.01)
            spent.append(time.thread_time_ns() - begun)
            yield number

    with recorded.tracer.start_as_current_span("request") as request:
        assert each_on_another_thread(work.Body(pieces()), request) == [0, 1, 2]
    spans = recorded.spans()
    (record,) = [name for name in spans if name.startswith("work ")]
    assert record.endswith("pieces")
    assert {spans[f"piece {number}"].parent.span_id for number in range(3)} == {spans[record].context.span_id}
    figures = recorded.figures(record)
    assert figures[ACCOUNT] == "thread"
    assert figures[CPU_NS] >= 30 * MS
    assert sum(figures[SLICES][2::4]) == figures[CPU_NS]
    assert recorded.figures("request")[ACCOUNT] == "thread"


def test_a_body_that_nobody_reads_to_its_end(recorded: Traced) -> None:
    """The client has gone: the record ends when the body is thrown away, and is measured up to there."""
    with recorded.tracer.start_as_current_span("request"):
        body = work.Body(iter(range(5)))
        assert next(body) == 0
        del body
    (record,) = [name for name in recorded.spans() if name.startswith("work ")]
    assert recorded.figures(record)[ACCOUNT] == "thread"


def test_a_body_outside_of_any_request_leaves_none(recorded: Traced) -> None:
    """There is nothing to tell of it, and its pieces are as they were."""
    assert list(work.Body([1, 2])) == [1, 2]
    assert not recorded.spans()


def test_a_body_that_breaks(recorded: Traced) -> None:
    """The record ends as an error, by its type alone, and the app sees its own exception."""

    def pieces() -> Iterator[int]:
        yield 1
        raise RuntimeError("with a secret in it")

    with recorded.tracer.start_as_current_span("request"), pytest.raises(RuntimeError):
        list(work.Body(pieces()))
    (record,) = [span for name, span in recorded.spans().items() if name.startswith("work ")]
    assert record.status.description == "RuntimeError"
