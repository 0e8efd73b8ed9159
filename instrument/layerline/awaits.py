"""Where a suspended asyncio task stands, and what it awaits.

A task that awaits runs on no thread, so no look at a thread sees it. Its coroutine knows which coroutine it awaits
(``cr_await``), and so on down to the future at the end. The innermost function that is the app's own has the line; the
functions further in, which are libraries', say what it waits for: a sleep, a lock or queue, a socket and its peer, the
address of a name, a function in another thread. Where the future is another task (``gather``, ``TaskGroup``,
``wait_for``), that task is followed in the same way.

The watcher reads this from another thread. No code of the app's runs for it: attributes are read as they are stored
(``layerline.locks``), and only asyncio's own transports are asked for their peer.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from asyncio import locks, queues, streams
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, NamedTuple

from layerline import guard
from layerline.locks import held_by_task, stored
from layerline.seen import is_own, place_of

#: Coroutines that are followed from the task on, tasks that are followed, and values that are looked through for a
#: transport: at most so many.
_DEEPEST: Final = 100
_TASKS: Final = 10
_VALUES: Final = 60
_LONGEST: Final = 120

#: In a loop with more tasks than this nobody is asked who holds a lock.
_MOST_TASKS: Final = 500

_SLEEP: Final = asyncio.sleep.__code__
_ACQUIRE: Final = locks.Lock.acquire.__code__
_RUN: Final = asyncio.BaseEventLoop.run_until_complete.__code__
#: Functions of the standard library that wait for another task of the process to let them go on.
_BEHIND: Final[dict[CodeType, str]] = {
    function.__code__: f"asyncio.{function.__qualname__}"
    for function in (
        locks.Lock.acquire, locks.Event.wait, locks.Condition.wait, locks.Semaphore.acquire, locks.Barrier.wait,
        queues.Queue.get, queues.Queue.put, queues.Queue.join,
    )
}  # fmt: skip
#: The same in libraries: the end of the file's path, the function, and the kind of what it waits for.
_LIBRARIES: Final = (
    ("anyio/_backends/_asyncio.py", "Lock.acquire", "lock"),
    ("anyio/_backends/_asyncio.py", "Semaphore.acquire", "lock"),
    ("anyio/_backends/_asyncio.py", "CapacityLimiter.acquire_on_behalf_of", "pool"),
    ("asyncpg/pool.py", "Pool._acquire", "pool"),
    ("psycopg_pool/pool_async.py", "AsyncConnectionPool.getconn", "pool"),
    ("sqlalchemy/pool/impl.py", "AsyncAdaptedQueuePool._do_get", "pool"),
    ("redis/asyncio/connection.py", "BlockingConnectionPool.get_connection", "pool"),
    ("httpcore/_synchronization.py", "AsyncEvent.wait", "pool"),
    ("aiohttp/connector.py", "BaseConnector._wait_for_available_connection", "pool"),
)
#: Names under which libraries keep what leads to a connection.
_TO_TRANSPORT: Final = (
    "_transport", "transport", "_protocol", "protocol", "_connection", "connection", "_conn", "conn", "_con",
    "_writer", "writer", "_stream_writer", "_reader", "reader", "_stream", "stream", "_network_stream", "_sock", "sock",
)  # fmt: skip
_TRANSPORTS: Final = ("asyncio.selector_events", "asyncio.sslproto", "asyncio.unix_events")

#: Where a task waits for what other tasks pass on to it, or for the client to leave: ends of files' paths.
_RELAYS: Final = ("starlette/middleware/base.py", "anyio/streams/memory.py")


class Found(NamedTuple):
    """What a task awaits."""

    kind: str
    """Of ``attributes.SAMPLE_KINDS``."""
    what: str
    """``await:`` with what is awaited, without spaces."""
    place: str
    """``function file:line``"""
    own: bool
    """Whether that is the app's own code."""
    relayed: bool
    """Whether it only waits for what other tasks pass on, or no code of the app's own is there."""
    lock: Any = None
    """The ``asyncio.Lock`` that it waits for, if it is one."""


class Chain:
    """The coroutines of a task that await each other, the tasks followed included; frames from outside to inside."""

    def __init__(self, coroutine: Any, awaits: object, follow: bool = True) -> None:
        """``follow``: from a task that waits for another on to that one."""
        self.frames: list[FrameType] = []
        self.leaf: Any = None
        self.running = False
        self.followed: str | None = None  # the function of the last task that was followed
        for _ in range(_TASKS):
            inner = self._down(coroutine)
            # What a task yielded is the future at the end; where that is not known, the last awaitable leads to it.
            self.leaf = awaits if awaits is not None else inner
            other = self._another() if follow else None
            if other is None:
                break
            coroutine, awaits = _coroutine_of(other)
            self.followed = getattr(coroutine, "__qualname__", None) or self.followed

    def _down(self, coroutine: Any) -> Any:
        """Follow coroutines as far as they go; returns what the last one awaits."""
        inner = coroutine
        for _ in range(_DEEPEST):
            if isinstance(inner, CoroutineType):
                frame, then = inner.cr_frame, inner.cr_await
                if then is None:  # it runs, has not begun, or has ended
                    self.running = True
                    if frame is not None:
                        self.frames.append(frame)
                    return None
            elif isinstance(inner, GeneratorType):
                frame, then = inner.gi_frame, inner.gi_yieldfrom
            elif isinstance(inner, AsyncGeneratorType):
                frame, then = inner.ag_frame, inner.ag_await
            elif type(inner).__name__ in ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow"):
                frame, then = (
                    None,
                    next(
                        (
                            each
                            for each in gc.get_referents(inner)
                            if isinstance(each, CoroutineType | AsyncGeneratorType)
                        ),
                        None,
                    ),
                )
            elif type(inner).__module__ != "builtins" and (frame := getattr(type(inner), "cr_await", None)) is not None:
                frame, then = None, getattr(inner, "cr_await", None)  # Cython's
            else:
                return inner
            if frame is not None:
                self.frames.append(frame)
            if then is None:
                return None
            inner = then
        return inner

    def _another(self) -> Any:
        """The task that this one waits for; None where it is none, or where that is not known."""
        leaf = self.leaf
        if isinstance(leaf, asyncio.Task):
            return leaf
        children = stored(leaf, "_children")
        if type(leaf).__name__ == "_GatheringFuture" and isinstance(children, list):
            return _undone(children)
        for frame in reversed(self.frames[-3:]):
            file, function = frame.f_code.co_filename, frame.f_code.co_qualname
            if file.endswith("asyncio/taskgroups.py"):
                return _undone(stored(frame.f_locals.get("self"), "_tasks"))
            if file.endswith("anyio/_backends/_asyncio.py") and function.startswith("TaskGroup."):
                return _undone(stored(frame.f_locals.get("self"), "_tasks"))
            if file.endswith("asyncio/tasks.py") and function in ("_wait", "wait_for"):
                waited = frame.f_locals.get("fs") or (frame.f_locals.get("fut"),)
                return _undone(waited)
        return None


def _undone(tasks: Any) -> Any:
    """The first task of several that has not ended."""
    if not isinstance(tasks, list | tuple | set | frozenset):
        return None
    return next((each for each in tuple(tasks) if isinstance(each, asyncio.Task) and not each.done()), None)


def _coroutine_of(task: Any) -> tuple[Any, object]:
    """A task's coroutine, and what it yielded last, if its steps are seen."""
    coroutine = task.get_coro()
    inner = stored(coroutine, "_inner")
    return (inner, stored(coroutine, "_awaits")) if isinstance(inner, CoroutineType) else (coroutine, None)


def awaited(coroutine: Any, awaits: object) -> Found | None:
    """What a task does not go on for: ``coroutine`` is its outermost one, ``awaits`` the future that it yielded.

    None where it waits for nothing any more: the future is done, and the loop has yet to run it.
    """
    try:
        if getattr(awaits, "_state", "PENDING") != "PENDING":
            return None
        chain = Chain(coroutine, awaits)
        if not chain.frames or chain.running:
            return None
        if isinstance(chain.leaf, asyncio.Future) and chain.leaf.done():
            return None
        kind, what = _what(chain)
        own = any(is_own(frame.f_code) for frame in chain.frames)
        relayed = not own or any(frame.f_code.co_filename.endswith(_RELAYS) for frame in _library(chain.frames))
        return Found(kind, f"await:{what}", place_of(chain.frames), own, relayed, _lock(chain.frames))
    except Exception:  # it costs one look
        guard.failed("awaits")
        return None


def behind_thread(frame: FrameType) -> Found | None:
    """What the coroutine awaits that a thread does nothing but wait for; None where it waits for none.

    Such a thread runs an event loop inside a request, or waits for one of another thread (``asgiref``'s
    ``async_to_sync``: Django's ``async def`` views). Its own frames say no more than that.
    """
    each: FrameType | None = frame
    for _ in range(_DEEPEST):
        if each is None or is_own(each.f_code):
            return None
        if each.f_code is _RUN:
            task = each.f_locals.get("future")
            return awaited(*_coroutine_of(task)) if isinstance(task, asyncio.Task) else None
        if each.f_code.co_name == "__call__" and each.f_code.co_filename.endswith("asgiref/sync.py"):
            return awaited(each.f_locals.get("awaitable"), None)
        each = each.f_back
    return None


def _what(chain: Chain) -> tuple[str, str]:
    """The kind of what is awaited, and its name without spaces."""
    inside = list(_library(chain.frames))
    for frame in inside:
        code = frame.f_code
        if code is _SLEEP:
            return "sleep", "asyncio.sleep"
        if (name := _BEHIND.get(code)) is not None:
            return "lock", name
        for file, function, kind in _LIBRARIES:
            if code.co_qualname == function and code.co_filename.endswith(file):
                return kind, function
        if code.co_filename.endswith("asyncio/base_events.py") and code.co_name in ("getaddrinfo", "_ensure_resolved"):
            host = frame.f_locals.get("host") or frame.f_locals.get("address")
            return "socket", _word(f"dns[{host[0] if isinstance(host, tuple) else host}]")
        if code.co_filename.endswith("asyncio/threads.py") and code.co_name == "to_thread":
            return "other", _word(f"thread[{_called(frame.f_locals.get('func'))}]")
        if code.co_filename.endswith("anyio/_backends/_asyncio.py") and code.co_name == "run_sync_in_worker_thread":
            return "other", _word(f"thread[{_called(frame.f_locals.get('func'))}]")
        if code.co_filename.endswith("asyncio/subprocess.py"):
            return "other", "child_process"
    peer = next((found for frame in inside for found in _peers(frame)), None)
    if peer is not None:
        return "socket", _word(f"socket[{peer}]")
    if any(frame.f_code.co_filename == streams.__file__ for frame in inside):
        return "socket", "socket"
    if chain.followed is not None:
        return "other", _word(f"task[{chain.followed}]")
    return "other", "future"


def _lock(frames: list[FrameType]) -> Any:
    """The ``asyncio.Lock`` that the coroutines wait for; None where it is none."""
    frame = next((frame for frame in _library(frames) if frame.f_code is _ACQUIRE), None)
    return frame.f_locals.get("self") if frame is not None else None


class HeldByTasks:
    """Where the tasks stand that hold locks of asyncio's, at one look: worked out once for each loop."""

    def __init__(self) -> None:
        self._by: dict[int, list[tuple[Any, str]]] = {}  # by the loop's id

    def by(self, lock: Any) -> str | None:
        """``function file:line`` of the task that holds this lock; None where none, or more than one, is seen to."""
        try:
            loop = stored(lock, "_loop")
            if loop is None or stored(lock, "_locked") is not True:
                return None
            known = self._by.get(id(loop))
            if known is None:
                known = self._by[id(loop)] = self._look(loop)
            places = [place for held, place in known if held is lock]
            return places[0] if len(places) == 1 else None
        except Exception:  # it costs the holder's name, not the look
            guard.failed("awaits.held")
            return None

    def _look(self, loop: Any) -> list[tuple[Any, str]]:
        tasks = asyncio.all_tasks(loop)
        found: list[tuple[Any, str]] = []
        if len(tasks) > _MOST_TASKS:
            return found
        for task in tasks:
            frames = Chain(*_coroutine_of(task), follow=False).frames
            found += [(lock, place_of(frames)) for lock in held_by_task(reversed(frames))]
        return found


def _called(function: Any) -> str:
    """What a function is called that was handed to a thread, behind what hands it over (``layerline.work``)."""
    for _ in range(5):
        if isinstance(function, partial):
            function = function.keywords.get("function") or function.func
        elif (inner := stored(function, "function")) is not None:
            function = inner
        else:
            break
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _word(text: str) -> str:
    return "_".join(text.split())[:_LONGEST]


def _library(frames: list[FrameType]) -> Iterator[FrameType]:
    """The frames further in than the app's own code, innermost first."""
    for frame in reversed(frames):
        if is_own(frame.f_code):
            return
        yield frame


def _peers(frame: FrameType) -> Iterable[str]:
    """To where the connections lead that are kept in a frame's ``self`` or arguments."""
    code = frame.f_code
    names = code.co_varnames[: min(3, code.co_argcount)]
    waiting = [frame.f_locals.get(name) for name in names]
    known: set[int] = set()
    for each in waiting:  # grows while it is read
        if each is None or id(each) in known or len(known) >= _VALUES:
            continue
        known.add(id(each))
        if isinstance(each, socket.socket):
            yield from _address(each.getpeername)
        elif type(each).__module__ in _TRANSPORTS and isinstance(each, asyncio.Transport):
            yield from _address(partial(each.get_extra_info, "peername"))
        else:
            waiting += [stored(each, name) for name in _TO_TRANSPORT]


def _address(ask: Callable[[], Any]) -> Iterator[str]:
    try:
        found = ask()
    except OSError:
        return
    if isinstance(found, tuple) and len(found) >= 2:
        yield f"{found[0]}:{found[1]}"
    elif isinstance(found, str) and found:
        yield found
