"""What a suspended task awaits: read from its coroutines, whatever the clock says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from layerline import tasks
from layerline.attributes import LOCK_HELD_BY, SAMPLE_KINDS, SAMPLES
from layerline.awaits import Found, HeldByTasks, awaited, behind_thread
from layerline.tasks import Steps
from waiting import PATIENCE_S
from wrapper.conftest import Traced


@pytest.fixture(autouse=True)
def seen() -> Iterator[None]:
    tasks.install()
    yield
    tasks.uninstall()


def steps(task: asyncio.Task[Any]) -> Steps:
    found = task.get_coro()
    assert isinstance(found, Steps)
    return found


async def until_suspended(task: asyncio.Task[Any], true: Callable[[Found], bool]) -> Found:
    """What it awaits once that is so; its libraries may await something else before."""
    end = time.monotonic() + PATIENCE_S
    found = None
    while True:
        assert time.monotonic() < end, f"it awaits {found}"
        await asyncio.sleep(0.001)
        assert not task.done()
        found = steps(task).waits()
        if found is not None and true(found):
            return found


async def forever() -> None:
    await asyncio.sleep(3600)


async def numbers() -> AsyncIterator[int]:
    await asyncio.sleep(3600)
    yield 1


class Waits:
    """Each method waits for something that does not come."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def sleeps(self) -> None:
        await asyncio.sleep(3600)

    async def asks_for_a_lock(self) -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        async with lock:
            pass

    async def takes_from_a_queue(self) -> None:
        await asyncio.wait_for(asyncio.Queue[int]().get(), 3600)

    async def waits_for_an_event(self) -> None:
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()

    async def reads(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.closing(writer):
            await reader.readexactly(1)

    async def receives(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as bare:
            bare.setblocking(False)
            await asyncio.get_running_loop().sock_recv(bare, 1)

    async def awaits_a_future(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def gathers(self) -> None:
        await asyncio.gather(forever(), forever())

    async def groups(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())

    async def iterates(self) -> None:
        async for _ in numbers():
            pass


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("method", "kind", "what", "function"),
    [
        ("sleeps", "sleep", "asyncio.sleep", "Waits.sleeps"),
        ("asks_for_a_lock", "lock", "asyncio.Lock.acquire", "Waits.asks_for_a_lock"),
        ("takes_from_a_queue", "lock", "asyncio.Queue.get", "Waits.takes_from_a_queue"),
        ("waits_for_an_event", "lock", "asyncio.Event.wait", "Waits.waits_for_an_event"),
        ("reads", "socket", "socket[127.0.0.1:{port}]", "Waits.reads"),
        ("receives", "socket", "socket[127.0.0.1:{port}]", "Waits.receives"),
        ("awaits_a_future", "other", "future", "Waits.awaits_a_future"),
        ("gathers", "sleep", "asyncio.sleep", "forever"),
        ("groups", "sleep", "asyncio.sleep", "forever"),
        ("iterates", "sleep", "asyncio.sleep", "numbers"),
    ],
)
def test_what_a_task_awaits_is_named_with_its_line(method: str, kind: str, what: str, function: str) -> None:
    """Kind, what is awaited, and the innermost function of the app's own, also in the tasks that it waits for."""

    async def main(port: int) -> None:
        task = asyncio.create_task(getattr(Waits(port), method)())
        expected = f"await:{what.format(port=port)}"
        found = await until_suspended(task, lambda found: found[1] == expected)
        assert found[0] == kind
        assert found[0] in SAMPLE_KINDS
        assert " " not in found[1]
        place = found[2].rpartition(":")
        assert place[0] == f"{function} {__file__}"
        assert int(place[2]) > 1
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with silent() as port:
        asyncio.run(main(port))


def test_work_in_a_thread_is_named() -> None:
    """Who awaits a thread is seen to, with the function that runs there."""
    over = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(asyncio.to_thread(over.wait))
        try:
            found = await until_suspended(task, lambda _: True)
        finally:
            over.set()  # the loop's end waits for its threads, however long
        assert found[:2] == ("other", "await:thread[Event.wait]")
        await task

    asyncio.run(main())


def test_a_thread_that_runs_a_loop_says_what_its_coroutine_awaits() -> None:
    """Of a thread that waits for a coroutine the line is the coroutine's; of one that runs a step of it, its own."""
    found: list[Found | None] = []

    async def main(frames: Callable[[], Any], seen: threading.Event) -> None:
        found.append(behind_thread(frames()))
        waiting = threading.Thread(target=look, args=(threading.get_ident(), seen))
        waiting.start()
        while not seen.is_set():
            await asyncio.sleep(0.01)
        waiting.join()

    def look(ident: int, seen: threading.Event) -> None:
        end = time.monotonic() + PATIENCE_S
        try:
            while len(found) < 2 and time.monotonic() < end:
                if (waits := behind_thread(sys._current_frames()[ident])) is not None:
                    found.append(waits)
        finally:
            seen.set()

    asyncio.run(main(lambda: sys._current_frames()[threading.get_ident()], threading.Event()))
    running, suspended = found
    assert running is None
    assert suspended is not None
    assert suspended.what == "await:asyncio.sleep"
    assert suspended.place.startswith("test_a_thread_that_runs_a_loop_says_what_its_coroutine_awaits.<locals>.main ")


def test_what_is_ready_awaits_nothing() -> None:
    """A task whose future is done waits for the loop, which others hold: that is not told as a wait for the future."""

    async def waiter(future: asyncio.Future[None]) -> None:
        await future

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waiter(future))
        await until_suspended(task, lambda _: True)
        future.set_result(None)
        assert steps(task).waits() is None
        await task

    asyncio.run(main())


def test_what_a_task_passes_on_is_looked_through(traced: Traced) -> None:
    """Where a request waits in a library for its own task's answer, the line is that task's."""
    names: dict[str, Any] = {}
    text = "async def receive(event):\n    await event.wait()\n"
    exec(compile(text, "/lib/site-packages/anyio/streams/memory.py", "exec"), names)  # noqa: S102 - a library's code

    async def middleware() -> None:
        with traced.tracer.start_as_current_span("request"):
            below = asyncio.create_task(forever())
            await names["receive"](asyncio.Event())
            await below

    async def main() -> None:
        task = asyncio.create_task(middleware())
        found = await until_suspended(task, lambda found: found.kind == "sleep")
        assert found.place.startswith("forever ")
        task.cancel()

    asyncio.run(main())


class Odd:
    """An awaitable of the app's own, whose attributes raise."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __await__(self) -> Any:
        yield from asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    "coroutine", [None, 1, SimpleNamespace(cr_await=1), Odd()], ids=["none", "number", "like", "odd"]
)
def test_strange_coroutines_do_no_harm(coroutine: object) -> None:
    """What is no coroutine of Python's has nothing to say."""
    assert awaited(coroutine, None) is None


def test_an_awaitable_of_the_app_s_own_is_looked_through() -> None:
    """A class with ``__await__`` shows where it was awaited, and none of its code is run."""

    async def awaits(odd: Awaitable[None]) -> None:
        await odd

    async def main() -> None:
        task = asyncio.create_task(awaits(Odd()))  # type: ignore[arg-type]
        found = await until_suspended(task, lambda _: True)
        assert found[:2] == ("other", "await:future")
        assert "Odd.__await__" in found[2]
        task.cancel()

    asyncio.run(main())


async def sleeps_until(true: Callable[[], object]) -> None:
    """Sleep at one line until it is so."""
    while not true():
        await asyncio.sleep(0.1)


def test_a_slow_span_of_a_suspended_task_is_looked_at(watched: Traced) -> None:
    """Two tasks that sleep on one loop are each seen at their own line, and a quick one before them is not."""

    def looks() -> list[int]:
        return [sum((each.stack[0].seen or {}).values()) for each in list(tasks.with_spans) if each.stack]

    async def work(name: str) -> None:
        with watched.tracer.start_as_current_span(name):
            await sleeps_until(lambda: min(looks(), default=0) >= 3)

    async def main() -> None:
        with watched.tracer.start_as_current_span("quick"):
            pass
        await asyncio.gather(work("one"), work("two"))

    asyncio.run(main())
    assert SAMPLES not in watched.figures("quick")
    for name in ("one", "two"):
        said = [each for each in watched.figures(name)[SAMPLES] if " sleep A await:asyncio.sleep " in each]
        assert said, watched.figures(name)
        assert "sleeps_until " in said[0]


def test_a_task_that_is_done_with_its_spans_is_looked_at_no_more(watched: Traced) -> None:
    """A task that lives on without a span is taken out, so that thousands of idle ones cost nothing."""

    async def lives_on() -> None:
        with watched.tracer.start_as_current_span("first"):
            pass
        watcher = watched.account._watcher
        assert watcher is not None
        end = time.monotonic() + PATIENCE_S
        while any(each is tasks.current() for each in list(tasks.with_spans)) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert all(each is not tasks.current() for each in list(tasks.with_spans))
        with watched.tracer.start_as_current_span("second"):
            assert any(each is tasks.current() for each in list(tasks.with_spans))

    asyncio.run(lives_on())


class Locked:
    """Each method but the last ones holds the lock while it awaits something else."""

    def __init__(self) -> None:
        self.lock, self.condition = asyncio.Lock(), asyncio.Condition()

    async def by_with(self) -> None:
        async with self.lock:
            await forever()

    async def by_acquire(self) -> None:
        await self.lock.acquire()
        try:
            await forever()
        finally:
            self.lock.release()

    async def deeper(self) -> None:
        async with self.lock:
            await asyncio.gather(forever(), forever())

    async def by_condition(self) -> None:
        async with self.condition:
            await forever()

    async def gave_it_back(self) -> None:
        async with self.lock:
            pass
        await forever()

    async def waits_for_a_while(self) -> None:
        try:
            await asyncio.wait_for(self.lock.acquire(), 3600)
        finally:
            self.lock.release()

    async def hands_it_on(self) -> None:
        async with self.condition:
            await self.condition.wait()

    async def waits(self) -> None:
        async with self.lock:
            pass

    async def waits_for_the_condition(self) -> None:
        async with self.condition:
            pass


@pytest.mark.parametrize("method", ["by_with", "by_acquire", "deeper", "by_condition"])
def test_which_task_holds_the_lock_that_another_waits_for(method: str) -> None:
    """It stands in the lock's ``async with``, or behind its ``acquire``; with the line where it stands."""

    async def main() -> None:
        shop = Locked()
        beside = [asyncio.create_task(each()) for each in (shop.hands_it_on, shop.gave_it_back)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        holder = asyncio.create_task(getattr(shop, method)())
        await asyncio.sleep(0.001)
        waits = shop.waits_for_the_condition if "condition" in method else shop.waits
        waiters = [asyncio.create_task(each()) for each in (waits, waits, shop.waits_for_a_while)]
        found = await until_suspended(waiters[1], lambda found: found.what == "await:asyncio.Lock.acquire")
        held_by = HeldByTasks().by(found.lock)
        assert held_by is not None
        function = "forever" if method in ("by_with", "by_acquire", "by_condition") else f"Locked.{method}"
        assert held_by.startswith(f"{function} {__file__}:")
        for task in (*beside, *waiters, holder):
            task.cancel()
        await asyncio.gather(*beside, *waiters, holder, return_exceptions=True)

    asyncio.run(main())


def test_a_lock_whose_holder_is_not_seen_names_nobody() -> None:
    """Where the code that acquired it has returned, no task is accused; and what is no lock has no holder."""

    async def main() -> None:
        shop = Locked()
        await shop.lock.acquire()
        waiter = asyncio.create_task(shop.waits())
        found = await until_suspended(waiter, lambda found: found.what == "await:asyncio.Lock.acquire")
        held = HeldByTasks()
        assert held.by(found.lock) is None
        assert held.by(Odd()) is None
        shop.lock.release()
        await waiter

    asyncio.run(main())


def test_a_slow_span_says_which_task_held_its_lock(watched: Traced) -> None:
    """It is on the span as of threads: where the holder stood in most looks."""

    async def main() -> None:
        shop = Locked()
        holder = asyncio.create_task(shop.by_with())
        await asyncio.sleep(0)

        async def request() -> None:
            with watched.tracer.start_as_current_span("request"):
                await shop.waits()

        waiter = asyncio.create_task(request())
        while sum((steps(waiter).stack[0].seen or {}).values() if steps(waiter).stack else ()) < 3:
            await asyncio.sleep(0.005)
        holder.cancel()
        await waiter

    asyncio.run(main())
    assert watched.figures("request")[LOCK_HELD_BY].startswith(f"forever {__file__}:")
