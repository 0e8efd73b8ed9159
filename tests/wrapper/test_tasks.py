"""The account of asyncio tasks: whose step it was, how long the loop was held, and by whom."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from layerline import tasks
from layerline.attributes import (
    ACCOUNT,
    ACCOUNT_REASON,
    CPU_NS,
    LOOP_HELD_BY,
    LOOP_WAIT_LOW_NS,
    LOOP_WAIT_NS,
    SLICES,
)
from layerline.tasks import Steps
from waiting import PATIENCE_S
from wrapper.conftest import Traced, burn, clean_environment, used_by_this_thread

MS = 1_000_000


@pytest.fixture(autouse=True)
def seen() -> Iterator[None]:
    tasks.install()
    yield
    tasks.uninstall()


def length(traced: Traced, name: str) -> int:
    span = traced.spans()[name]
    return (span.end_time or 0) - (span.start_time or 0)


def account(traced: Traced, name: str) -> tuple[object, object]:
    figures = traced.figures(name)
    return figures.get(ACCOUNT), figures.get(ACCOUNT_REASON)


async def holds_the_loop(seconds: float) -> None:
    time.sleep(seconds)


# ---- whose step it was


def test_a_task_is_charged_its_own_steps_only(traced: Traced) -> None:
    """Tasks that take turns on one loop are each charged with their own CPU, and together never more than was used."""

    async def work(name: str, seconds: float) -> None:
        with traced.tracer.start_as_current_span(name):
            for _ in range(5):
                burn(seconds / 5)
                await asyncio.sleep(0)

    hashed: list[int] = []

    async def digest() -> None:
        with traced.tracer.start_as_current_span("digest"):
            await asyncio.sleep(0.001)
            begun = time.thread_time_ns()
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 40_000)
            hashed.append(time.thread_time_ns() - begun)

    async def main() -> None:
        with traced.tracer.start_as_current_span("parent"):
            await asyncio.gather(work("ten", 0.01), work("thirty", 0.03), digest())

    with used_by_this_thread() as used:
        asyncio.run(main())
    digested = traced.figures("digest")[CPU_NS]
    assert digested >= hashed[0]
    traced.assert_charged(used, {"ten": 10, "thirty": 30, "parent": 0}, elsewhere_ms=hashed[0] / MS)
    assert sum(traced.figures(name)[CPU_NS] for name in traced.spans()) <= used.ns
    assert {account(traced, name) for name in traced.spans()} == {("task", None)}


@pytest.mark.usefixtures("never_late")
def test_slices_cover_the_span_while_it_is_suspended_too(traced: Traced) -> None:
    """Of 20 ms burnt, 30 ms asleep and 10 ms burnt, the slices say just that, without a gap."""

    async def main() -> None:
        with traced.tracer.start_as_current_span("span"):
            burn(0.02)
            await asyncio.sleep(0.03)
            burn(0.01)

    with used_by_this_thread() as used:
        asyncio.run(main())
    slices = traced.figures("span")[SLICES]
    at = 0
    for offset, long in zip(slices[0::4], slices[1::4], strict=True):
        assert offset == at
        at = offset + long
    assert at == length(traced, "span")
    assert sum(slices[2::4]) == traced.figures("span")[CPU_NS]
    traced.assert_charged(used, {"span": 30})
    asleep = [slices[i + 1] for i in range(0, len(slices), 4) if slices[i + 2] == slices[i + 3] == 0]
    assert max(asleep) >= 29 * MS


def test_many_steps_leave_sixteen_slices(traced: Traced) -> None:
    """A span of a thousand short steps stays small, and keeps its order and its CPU."""

    async def main() -> None:
        with traced.tracer.start_as_current_span("span"):
            for _ in range(1_000):
                await asyncio.sleep(0)
            assert len(tasks.current().stack[0].pieces) <= 40 * 4  # type: ignore[union-attr]

    asyncio.run(main())
    slices = traced.figures("span")[SLICES]
    assert len(slices) <= 64
    assert sum(slices[2::4]) == traced.figures("span")[CPU_NS] <= length(traced, "span") + 1_000_000


def test_nested_spans_of_one_task(traced: Traced) -> None:
    """Spans nest within a task by ``with``, ``async with`` and in plain functions; each has its own time."""

    @contextlib.asynccontextmanager
    async def helper() -> AsyncIterator[None]:
        with traced.tracer.start_as_current_span("helped"):
            await asyncio.sleep(0.001)
            yield

    def plain() -> None:
        with traced.tracer.start_as_current_span("plain"):
            burn(0.01)

    async def main() -> None:
        with traced.tracer.start_as_current_span("outer"):
            burn(0.01)
            async with helper():
                burn(0.02)
                plain()
            await asyncio.sleep(0.001)

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert {account(traced, name) for name in ("outer", "helped", "plain")} == {("task", None)}
    traced.assert_charged(used, {"outer": 10, "helped": 20, "plain": 10})


def test_children_of_a_task_group_have_their_own_account(traced: Traced) -> None:
    """Spans of child tasks hang below the parent's span, and none of their time is the parent's."""

    async def child(name: str) -> None:
        with traced.tracer.start_as_current_span(name):
            burn(0.01)
            await asyncio.sleep(0.001)
            assert trace.get_current_span().name == name  # type: ignore[attr-defined]
            burn(0.01)

    async def main() -> None:
        with traced.tracer.start_as_current_span("parent"):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for name in ("one", "two"):
                    group.create_task(child(name))

    with used_by_this_thread() as used:
        asyncio.run(main())
    parent = traced.spans()["parent"]
    for name in ("one", "two"):
        assert traced.spans()[name].parent.span_id == parent.context.span_id  # type: ignore[union-attr]
    traced.assert_charged(used, {"one": 20, "two": 20, "parent": 0})


def test_what_a_task_without_spans_does_is_its_request_s(traced: Traced) -> None:
    """A task that a request started is charged to it where it has no span of its own, until the request ends."""

    async def helps(again: asyncio.Event, over: asyncio.Event) -> None:
        burn(0.02)
        await asyncio.sleep(0)
        burn(0.01)
        with traced.tracer.start_as_current_span("helper's"):
            burn(0.03)
        await asyncio.sleep(0)
        burn(0.01)
        again.set()
        await over.wait()
        burn(0.05)

    async def main() -> None:
        again, over = asyncio.Event(), asyncio.Event()
        with traced.tracer.start_as_current_span("request"):
            task = asyncio.create_task(helps(again, over))
            await again.wait()
        over.set()
        await task

    with used_by_this_thread() as used:
        asyncio.run(main())
    traced.assert_charged(used, {"request": 40, "helper's": 30}, elsewhere_ms=50)
    assert {account(traced, name) for name in traced.spans()} == {("task", None)}
    assert traced.figures("request")[LOOP_WAIT_NS] == 0 or "helps" not in traced.figures("request")[LOOP_HELD_BY]
    slices = traced.figures("request")[SLICES]
    assert sum(slices[2::4]) == traced.figures("request")[CPU_NS]
    at = [(slices[i], slices[i] + slices[i + 1]) for i in range(0, len(slices), 4)]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(at))


def test_a_request_that_its_guest_ends(traced: Traced) -> None:
    """A response that another task of the request sends ends its span in that task's step: what that did is counted."""

    async def sends(span: trace.Span, sent: asyncio.Event) -> None:
        burn(0.02)
        span.end()
        burn(0.03)
        sent.set()

    async def main() -> None:
        sent = asyncio.Event()
        with traced.tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER, end_on_exit=False) as span:
            await asyncio.gather(sends(span, sent), sent.wait())

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "request") == ("task", None)
    traced.assert_charged(used, {"request": 20}, elsewhere_ms=30)


def test_a_span_around_the_loop_is_not_charged_for_spans_in_tasks(traced: Traced) -> None:
    """A thread's span that runs a whole loop keeps what no task's span takes."""

    async def main() -> None:
        burn(0.01)
        with traced.tracer.start_as_current_span("inside"):
            burn(0.02)
            await asyncio.sleep(0.001)

    with used_by_this_thread() as used, traced.tracer.start_as_current_span("around"):
        asyncio.run(main())
        burn(0.01)
    assert account(traced, "around") == ("thread", None)
    traced.assert_charged(used, {"inside": 20, "around": 20})


# ---- what is not measured


async def ended_after(seconds: float, span: trace.Span) -> None:
    await asyncio.sleep(seconds)
    span.end()


def test_a_request_that_another_task_ends(traced: Traced) -> None:
    """Starlette sends a streamed response from a task of its own: the request is what its own task did until then."""

    async def main() -> None:
        with traced.tracer.start_as_current_span("GET /", kind=trace.SpanKind.SERVER, end_on_exit=False) as span:
            burn(0.01)
            await asyncio.create_task(ended_after(0.02, span))
            with traced.tracer.start_as_current_span("after"):
                burn(0.01)

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "GET /") == account(traced, "after") == ("task", None)
    traced.assert_charged(used, {"GET /": 10, "after": 10})
    slices = traced.figures("GET /")[SLICES]
    assert sum(slices[1::4]) == length(traced, "GET /")


def test_a_request_that_another_task_ends_below_an_open_span(traced: Traced) -> None:
    """The wait for the client to leave is still open then: both are measured, each for what was its own."""

    async def main() -> None:
        with traced.tracer.start_as_current_span("GET /", kind=trace.SpanKind.SERVER, end_on_exit=False) as span:
            burn(0.01)
            ending = asyncio.create_task(ended_after(0.01, span))
            with traced.tracer.start_as_current_span("receive"):
                await ending
                burn(0.01)

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "GET /") == account(traced, "receive") == ("task", None)
    traced.assert_charged(used, {"GET /": 10, "receive": 10})


def test_a_span_that_ends_in_another_task_is_not_measured(traced: Traced) -> None:
    """A span handed from task to task says so, and both tasks are measured on."""

    async def end(span: trace.Span) -> None:
        with traced.tracer.start_as_current_span("ends it"):
            span.end()

    async def main() -> None:
        with traced.tracer.start_as_current_span("outer"):
            await asyncio.create_task(end(traced.tracer.start_span("handed")))
            burn(0.01)

    asyncio.run(main())
    assert account(traced, "handed") == ("none", "thread_hop")
    assert account(traced, "ends it") == account(traced, "outer") == ("task", None)


def test_callbacks_and_async_generators_are_not_measured(traced: Traced) -> None:
    """A span in a callback belongs to no task; one in an async generator stays open while its consumer works."""

    def callback() -> None:
        with traced.tracer.start_as_current_span("callback"):
            pass

    async def stream() -> AsyncIterator[int]:
        with traced.tracer.start_as_current_span("stream"):
            yield 1
            yield 2

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        with traced.tracer.start_as_current_span("consumer"):
            async for _ in stream():
                burn(0.01)
                await asyncio.sleep(0)

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "callback") == ("none", "coroutine")
    assert account(traced, "stream") == ("none", "generator")
    traced.assert_charged(used, {"consumer": 20})


def test_a_forked_child_goes_on(traced: Traced) -> None:
    """A child forked in a task's step leaves the parent's spans alone and measures its own."""
    read, write = os.pipe()

    async def main() -> None:
        with traced.tracer.start_as_current_span("parent"):
            await asyncio.sleep(0)
            if (child := os.fork()) == 0:
                try:
                    with used_by_this_thread() as used, traced.tracer.start_as_current_span("child"):
                        burn(0.01)
                    traced.assert_charged(used, {"child": 10})
                    os.write(write, str(traced.figures("child")[ACCOUNT]).encode())
                finally:
                    os._exit(0)
            os.waitpid(child, 0)

    asyncio.run(main())
    os.close(write)
    kind = os.read(read, 100).decode()
    os.close(read)
    assert kind == "task"
    assert account(traced, "parent") == ("task", None)


# ---- the loop


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_late_timer_knows_how_long_the_loop_was_held(traced: Traced, kind: str) -> None:
    """Who sleeps 50 ms while another task blocks the loop for 300 ms waited for it until that let go."""

    async def victim() -> float:
        with traced.tracer.start_as_current_span("victim"):
            before = asyncio.get_running_loop().time()  # uvloop counts from when the turn of its loop began
            await asyncio.sleep(0.05)
            return time.monotonic() - before - 0.05

    async def main() -> float:
        late, _ = await asyncio.gather(victim(), holds_the_loop(0.3))
        return late

    new_loop = pytest.importorskip("uvloop").new_event_loop if kind == "uvloop" else None
    with asyncio.Runner(loop_factory=new_loop) as runner:
        truth = runner.run(main()) * 1e9
    figures = traced.figures("victim")
    # The holder may have begun late, and the loop may have lost its core after it let go.
    assert 0 < figures[LOOP_WAIT_LOW_NS] == figures[LOOP_WAIT_NS] <= truth + MS / 10
    assert figures[LOOP_HELD_BY].startswith("holds_the_loop ")
    assert figures[LOOP_HELD_BY].endswith(f"test_tasks.py:{holds_the_loop.__code__.co_firstlineno}")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_gap_after_the_long_step_belongs_to_the_wait(traced: Traced, loop: str) -> None:
    """Whose timer was due during a long step waited until it went on, though the loop's thread stood still after it."""
    module = pytest.importorskip(loop)

    async def victim() -> None:
        with traced.tracer.start_as_current_span("victim"):
            await asyncio.sleep(0.02)

    async def held_then_stood() -> None:
        time.sleep(0.1)
        asyncio.get_running_loop().call_soon(time.sleep, 0.05)  # no task's step, so nobody sees it

    async def main() -> None:
        await asyncio.gather(victim(), held_then_stood())

    run: Callable[[Coroutine[Any, Any, None]], None]
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        run = runner.run
        run(main())
    figures = traced.figures("victim")
    assert 128 * MS <= figures[LOOP_WAIT_LOW_NS] == figures[LOOP_WAIT_NS] <= length(traced, "victim") - 19 * MS
    assert "held_then_stood" in str(figures[LOOP_HELD_BY])


def test_a_socket_that_was_ready_meanwhile(traced: Traced) -> None:
    """When data came nobody knows: the true wait lies between 0 and all that the loop was held."""
    left, right = socket.socketpair()
    left.setblocking(False)

    async def victim() -> None:
        with traced.tracer.start_as_current_span("victim"):
            await asyncio.get_running_loop().sock_recv(left, 1)

    async def main() -> None:
        waiting = asyncio.create_task(victim())
        await asyncio.sleep(0.02)
        begun = time.time_ns()
        time.sleep(0.05)
        right.send(b"x")
        ready = time.time_ns()
        time.sleep(0.1)
        let_go = time.time_ns()
        await waiting
        bounds.extend((let_go - ready, let_go - begun))

    bounds: list[int] = []
    asyncio.run(main())
    left.close()
    right.close()
    figures = traced.figures("victim")
    assert figures[LOOP_WAIT_LOW_NS] <= bounds[0]
    assert bounds[1] - MS / 10 <= figures[LOOP_WAIT_NS] <= length(traced, "victim")


def test_who_gave_way_waited_for_all_that_came_between(traced: Traced) -> None:
    """After ``sleep(0)`` a task is ready at once: all that others do until it goes on is loop wait, for sure."""

    async def main() -> None:
        other = asyncio.create_task(holds_the_loop(0.05))
        with traced.tracer.start_as_current_span("gave way"):
            await asyncio.sleep(0)
            await other

    asyncio.run(main())
    figures = traced.figures("gave way")
    assert 50 * MS <= figures[LOOP_WAIT_NS] == figures[LOOP_WAIT_LOW_NS] <= length(traced, "gave way")


def test_who_waits_for_a_task_does_not_wait_for_the_loop(traced: Traced) -> None:
    """The steps of an awaited task are what was awaited, not what kept from going on."""

    async def main() -> None:
        with traced.tracer.start_as_current_span("awaits"):
            await asyncio.create_task(holds_the_loop(0.05))

    asyncio.run(main())
    assert traced.figures("awaits")[LOOP_WAIT_NS] == 0


def test_an_idle_loop_was_not_waited_for(traced: Traced) -> None:
    """A step that ended long before, and a loop that only sleeps, are exactly 0; who held it is not named."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        long_after = loop.create_future()
        with traced.tracer.start_as_current_span("idle"):
            blocker = asyncio.create_task(holds_the_loop(0.02))
            blocker.add_done_callback(lambda _: loop.call_later(0.05, long_after.set_result, None))
            await long_after

    asyncio.run(main())
    figures = traced.figures("idle")
    assert figures[LOOP_WAIT_NS] == 0
    assert LOOP_WAIT_LOW_NS not in figures
    assert LOOP_HELD_BY not in figures


def test_a_stretch_of_time_knows_who_held_the_loop() -> None:
    """``held`` gives what long steps covered of a stretch, and the one that covered most."""

    took: dict[str, float] = {}

    async def hold(name: str, seconds: float) -> None:
        begun = time.monotonic()
        time.sleep(seconds)
        took[name] = time.monotonic() - begun

    async def short() -> None:
        await hold("short", 0.01)

    async def long() -> None:
        await hold("long", 0.03)

    async def main() -> tuple[int, tuple[int, str], tuple[int, str]]:
        start = time.time_ns()
        await asyncio.gather(short(), long())
        end = time.time_ns()
        return end - start, tasks.held(start, end), tasks.held(time.time_ns(), time.time_ns() + MS)

    length, (held, by), nothing = asyncio.run(main())
    assert 40 * MS <= held <= length
    assert by.split()[0].endswith(f".{max(took, key=lambda name: took[name])}")  # on a busy machine either
    assert nothing == (0, "")


# ---- nothing is broken


def test_results_exceptions_and_cancellation_are_kept() -> None:
    """A wrapped coroutine returns, raises, is cancelled, catches its cancellation and is named as before."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise StopAsyncIteration("mine")

    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "caught"
        return "slept"

    async def main() -> None:
        assert await asyncio.create_task(asyncio.sleep(0, (1, 2))) == (1, 2)
        with pytest.raises(StopAsyncIteration, match="mine"):
            await asyncio.create_task(fails())
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "caught"
        task = asyncio.create_task(stubborn())
        assert isinstance(task.get_coro(), Steps)
        assert "stubborn" in repr(task)
        assert task.get_stack()[0].f_code is stubborn.__code__
        task.cancel()  # before its first step
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.create_task(asyncio.sleep(10))

    asyncio.run(main())


def test_a_cancelled_span_is_measured(traced: Traced) -> None:
    """A span that a cancellation ends is measured, and what is cleaned up in it too."""

    async def cancelled() -> None:
        with traced.tracer.start_as_current_span("cancelled"):
            try:
                await asyncio.sleep(10)
            finally:
                burn(0.01)

    async def main() -> None:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "cancelled") == ("task", None)
    traced.assert_charged(used, {"cancelled": 10})


def test_an_application_keeps_its_task_factory(traced: Traced) -> None:
    """A task factory that the application sets is called as before, and its tasks are measured."""
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def work() -> None:
        with traced.tracer.start_as_current_span("work"):
            await asyncio.sleep(0)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await asyncio.create_task(work())

    asyncio.run(main())
    assert made.count("work") == 1
    assert account(traced, "work") == ("task", None)


def test_uvloop(traced: Traced) -> None:
    """On a loop that is not asyncio's own, tasks are seen too, and a late timer knows who held the loop."""
    uvloop = pytest.importorskip("uvloop")

    async def victim() -> None:
        with traced.tracer.start_as_current_span("victim"):
            await asyncio.sleep(0.02)

    async def main() -> None:
        await asyncio.gather(victim(), holds_the_loop(0.1))

    run: Callable[[Coroutine[Any, Any, None]], None]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        run = runner.run
        run(main())
    assert account(traced, "victim") == ("task", None)
    assert 0 < traced.figures("victim")[LOOP_WAIT_NS] <= length(traced, "victim")


def test_a_request_that_aiohttp_serves(traced: Traced) -> None:
    """A handler of a real server is measured in its connection's task, while its client runs on the same loop."""
    pytest.importorskip("aiohttp")
    from aiohttp import ClientSession, web

    async def handle(request: web.Request) -> web.Response:
        with traced.tracer.start_as_current_span("request"):
            burn(0.01)
            await asyncio.sleep(0.01)
            return web.Response(text="ok")

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        with traced.tracer.start_as_current_span("client"):
            async with ClientSession() as session, session.get(f"http://{host}:{port}/") as answer:
                assert await answer.text() == "ok"
        await runner.cleanup()

    with used_by_this_thread() as used:
        asyncio.run(main())
    assert account(traced, "request") == account(traced, "client") == ("task", None)
    traced.assert_charged(used, {"request": 10, "client": 0})


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_request_that_uvicorn_serves(tmp_path: Path, loop: str) -> None:
    """With ``layerline.start()`` every request's server span is a task's, on either loop, from the first on."""
    pytest.importorskip("uvicorn")
    pytest.importorskip(loop)
    script = f"""
import asyncio, threading, time, urllib.request
import layerline, uvicorn
layerline.start(endpoint="http://127.0.0.1:1")
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(kept))
async def app(scope, receive, send):
    await asyncio.sleep(0.01)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"ok"}})
config = uvicorn.Config(OpenTelemetryMiddleware(app), port=0, loop={loop!r}, log_level="error", lifespan="off")
server = uvicorn.Server(config)
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.02)
port = server.servers[0].sockets[0].getsockname()[1]
for _ in range(2):
    urllib.request.urlopen(f"http://127.0.0.1:{{port}}/").read()
server.should_exit = True
thread.join()
print([span.attributes["layerline.account"] for span in kept.get_finished_spans() if span.kind.name == "SERVER"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(PYTHONPATH=str(Path(tasks.__file__).parents[1])),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == "['task', 'task']\n", done.stderr
