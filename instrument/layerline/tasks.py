"""Who held the event loop, and whose work a step of an asyncio task was.

A task runs in *steps*, from one ``await`` that suspends it to the next. Its coroutine is wrapped, so that each step is
seen: while a task with open spans runs, its own stack of them stands in for the thread's (``Thread.stack``), and the
thread's one account is advanced at both ends of the step. So a span is credited with what its own task did and with
nothing of another's. Between steps a span's slices say that it neither ran nor waited for a core. A task that a request
starts (``gather``, a middleware of Starlette's) and that has no span of its own is the request's *guest*: its steps are
credited to the span on top of its host's stack, as what a function does is its caller's.

*Loop wait*: steps of 1 ms and more are kept in a log. When a task goes on after some of others, it is asked since when
it has been ready: a timer says when it was due, ``sleep(0)`` at once, another task when it ended. If a long step ran
since then, the task waited for the loop from that moment on, exactly. Of a socket or of a bare future nobody knows: the
steps that ended right before it, one after the other, may have kept it waiting, and how much of its suspension they
covered is the most that it waited; the least is 0. What held up who had the loop held the task up too: how long their
thread stood ready without a core is read at both ends of the suspension.

aiohttp's server makes its tasks itself, with ``asyncio.Task(…, eager_start=True)`` (Python 3.12), past every loop and
task factory; there the coroutines that it makes tasks of are wrapped.

Callbacks (``loop.call_soon``) and coroutines of other types than Python's own are not seen. A step without open spans
costs two readings of the clock; one with spans costs two more of the thread (``Thread.advance``), which within 50 µs
of each other are of the clock alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from asyncio import AbstractEventLoop, BaseEventLoop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from time import monotonic, time_ns
from types import CoroutineType, ModuleType
from typing import Any, Final

import wrapt

from layerline import guard
from layerline.awaits import Found, awaited
from layerline.thread import Open, Thread, merged

#: A step at least this long is kept in the log; a gap this long between two means that the loop was idle (ns).
LONG_NS: Final = 1_000_000
_KEPT: Final = 512
_PIECES: Final = 32 * 4
_DEEPEST: Final = 32
_MILLISECOND_NS: Final = 1_000_000
#: A suspension this short gets no slice of its own: the one before is made longer (ns).
_SHORT_NS: Final = 50_000

#: A long step: from, to (ns, UTC) and the task's coroutine, "function file:line".
Long = tuple[int, int, str]


class Here(threading.local):
    """What the event loop's thread keeps: the task whose step it runs, and the long steps it has run."""

    task: Steps | None = None

    def __init__(self) -> None:
        self.log: deque[Long] = deque(maxlen=_KEPT)


_here = Here()


def current() -> Steps | None:
    """The wrapped task whose step this thread runs."""
    return _here.task


def held(from_ns: int, to_ns: int) -> tuple[int, str]:
    """How much of a stretch of time (ns, UTC) long steps held this thread's loop, and who held it longest.

    ``(0, "")`` when none did. Call it on the loop's own thread; the step that is running is not among them.
    """
    held_ns, longest, by = 0, 0, ""
    edge = to_ns
    for start, end, who in reversed(_here.log):  # newest end first; a step run inside another lies within it
        if end <= from_ns:
            break
        whole = min(end, to_ns) - max(start, from_ns)
        if whole > longest:
            longest, by = whole, who
        start, end = max(start, from_ns), min(end, edge)
        if end > start:
            held_ns += end - start
            edge = start
    return held_ns, by


class Steps(Coroutine[Any, Any, Any]):
    """A task's coroutine, whose steps are seen. To everybody else it is the coroutine itself."""

    __slots__ = (
        "__weakref__", "_acts_for", "_awaits", "_inner", "_outer", "_send", "guests", "host", "left", "left_wait",
        "stack", "thread",
    )  # fmt: skip

    def __init__(self, inner: CoroutineType[Any, Any, Any]) -> None:
        self._inner = inner
        self._send = inner.send
        self._awaits: object = None  # what it yielded when it was suspended
        self._outer: list[Open] | None = None  # the stack that ours stands in for, while it does
        self.stack: list[Open] = []
        self.thread: Thread | None = None  # whose account its spans are in
        self.left = 0  # when its last step ended (ns, UTC)
        self.left_wait = 0  # how long its thread had stood ready without a core by then (ns)
        self.host: Steps | None = (
            None  # the task with open spans that started it: while it has none of its own, works for it
        )
        self.guests: weakref.WeakSet[Steps] | None = None  # the tasks whose host it is
        self._acts_for: Steps | None = None  # its host, during a step that is credited to it
        creator = _here.task
        if creator is not None:
            host = creator if creator.stack else creator.host
            if host is not None and host.stack:
                self.host = host
                if host.guests is None:
                    host.guests = weakref.WeakSet()
                host.guests.add(self)

    def send(self, value: Any) -> Any:
        """Run one step."""
        here = _here
        before = here.task
        started = time_ns()
        if self.stack or before is not None:
            self._begin(started, before)
        elif self.host is not None:
            self._act(started)
        here.task = self
        try:
            self._awaits = awaits = self._send(value)
            return awaits
        finally:
            here.task = before
            self.left = ended = time_ns()
            if ended - started >= LONG_NS:
                here.log.append((started, ended, self._name()))
            if self._outer is not None:
                self._end(ended)
            if self._acts_for is not None:
                self._acted(ended)

    def throw(self, *error: Any) -> Any:
        """Run one step that begins with an exception (a cancellation)."""
        here = _here
        before = here.task
        started = time_ns()
        if self.stack or before is not None:
            self._begin(started, before)
        elif self.host is not None:
            self._act(started)
        here.task = self
        try:
            self._awaits = awaits = self._inner.throw(*error)
            return awaits
        finally:
            here.task = before
            self.left = ended = time_ns()
            if ended - started >= LONG_NS:
                here.log.append((started, ended, self._name()))
            if self._outer is not None:
                self._end(ended)
            if self._acts_for is not None:
                self._acted(ended)

    def close(self) -> None:
        """End it where it is suspended."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    # ---- the account

    def enter(self, thread: Thread, now: int) -> None:
        """Let our stack stand in for the thread's from now on: a span is about to be opened in this step.

        Raises OSError, ValueError or IndexError if the thread's files cannot be read.
        """
        if not self.stack:
            with_spans.add(self)
        if self._outer is not None and self.thread is thread:
            return
        if self.thread is not thread:
            drop(self.stack, "thread_hop")
            self.thread = thread
        if now:  # else a reading has been taken for the span's start
            thread.advance(now)
        self._outer = thread.stack
        thread.stack = self.stack

    @property
    def suspended(self) -> bool:
        """Whether it has open spans and none of its steps is running. Asked from other threads."""
        return bool(self.stack) and self._outer is None

    def waits(self) -> Found | None:
        """What it awaits (``layerline.awaits``). Asked from other threads.

        Where it only waits for what tasks that it started pass on (a middleware of Starlette's), it is what they await.
        """
        found = awaited(self._inner, self._awaits)
        if found is None or not found.relayed or self.guests is None:
            return found
        for guest in list(self.guests):
            if not guest.stack and guest.host is self:
                inside = awaited(guest._inner, guest._awaits)
                if inside is not None and inside.own:
                    return inside
        return found

    def finish(self, opened: Open, now: int) -> None:
        """A span of this task is ended from outside: since the last step the task neither ran nor waited for a core."""
        if self._outer is not None and self.thread is not None:
            self.thread.advance(now)  # a guest of its own ends it, in a step that is credited to it
        elif self.stack[-1] is opened:
            since = max(self.left, opened.pieces[-3]) if opened.pieces else self.left
            if now > since:
                opened.pieces += (since, now, 0, 0)
                if len(opened.pieces) > _PIECES:
                    opened.pieces = merged(opened.pieces)
        self.stack.remove(opened)

    def _act(self, now: int) -> None:
        """A step begins of a task without spans: what it does is its host's, as a function's work is its caller's."""
        host = self.host
        if host is None or not host.stack:
            self.host = None  # the request is over: what goes on is nobody's
            return
        if host._outer is None and host.thread is not None and host.thread.ident == threading.get_ident():
            host._begin(now, None)
            if host._outer is not None:
                self._acts_for = host

    def _acted(self, now: int) -> None:
        host, self._acts_for = self._acts_for, None
        if host is not None:
            host.left = now
            if host._outer is not None:
                host._end(now)

    def _begin(self, now: int, before: Steps | None) -> None:
        """A step begins, and we have open spans or are run inside another task's step, which is not to pay for it."""
        try:
            thread = self.thread if self.stack else before.thread if before is not None else None
            if thread is None:
                return
            if thread.schedstat is None or thread.ident != threading.get_ident():
                drop(self.stack, "unreadable" if thread.tid == threading.get_native_id() else "thread_hop")
                return
            thread.advance(now)
            self.thread = thread
            self._outer = thread.stack
            thread.stack = self.stack
            while self.stack and self.stack[-1].thread is None:
                self.stack.pop()
            if self.stack and now > self.left:
                top = self.stack[-1]
                suspended = max(self.left, top.pieces[-3]) if top.pieces else self.left
                if top.pieces and 0 < now - suspended < _SHORT_NS:
                    top.pieces[-3] = now
                elif now > suspended:
                    top.pieces += (suspended, now, 0, 0)
                if len(top.pieces) > _PIECES:
                    top.pieces = merged(top.pieces)
                log = _here.log
                if log and log[-1][1] > self.left:
                    self._delayed(top, now, log, thread.wait - self.left_wait)
        except Exception:
            self._failed("tasks.begin")

    def _end(self, now: int) -> None:
        """A step ends: the thread's own stack is put back."""
        try:
            thread, outer = self.thread, self._outer
            self._outer = None
            if thread is None or outer is None:
                return
            try:
                if thread.schedstat is not None:
                    thread.advance(now)
                    self.left_wait = thread.wait
            finally:
                thread.stack = outer
        except Exception:
            self._failed("tasks.end")

    def _failed(self, where: str) -> None:
        drop(self.stack, "unreadable")
        with contextlib.suppress(OSError, ValueError, IndexError):  # files that the application closed
            guard.failed(where)

    def _delayed(self, top: Open, now: int, log: deque[Long], stood: int) -> None:
        """Credit the span on top with how long it could not go on for others' long steps.

        ``stood``: how long their thread stood ready without a core since our last step (ns).
        """
        since, exact = self._ready(now)
        if exact:
            # A loop does not sleep while somebody is ready. If there is a gap after the long step, its thread was held
            # back (by a CPU quota, say) or ran what is not seen: this task waited for the loop all the same.
            covered, by = held(since, now)
            if covered:
                top.loop_wait += now - since
                top.loop_low += now - since
                top.loop_stood += min(stood, now - since)
                top.loop_stood_low += max(0, stood - (since - self.left))
                if covered > top.held_ns:
                    top.held_ns, top.held_by = covered, by
            return
        first = now
        longest, by = 0, ""
        for start, end, who in reversed(log):
            if end <= self.left or end < first - LONG_NS:
                break
            covered = end - max(start, self.left)
            if covered > longest:
                longest, by = covered, who
            first = min(first, start)
        if not longest:
            return
        most, _ = held(max(first, self.left), now)
        top.loop_wait += most
        top.loop_stood += min(stood, most)
        if most and longest > top.held_ns:
            top.held_ns, top.held_by = longest, by

    def _ready(self, now: int) -> tuple[int, bool]:
        """Since when (ns, UTC) the task has been known to be ready, 0 if that is not known; whether that is exact."""
        awaits = self._awaits
        if awaits is None:  # sleep(0)
            return self.left, True
        if isinstance(awaits, asyncio.Task) and isinstance(other := awaits.get_coro(), Steps):
            return max(other.left, self.left) if awaits.done() else 0, awaits.done()
        inner: Any = self._inner
        for _ in range(_DEEPEST):
            if inner is None:
                return 0, False
            if getattr(inner, "cr_code", None) is _SLEEP:
                frame = inner.cr_frame
                handle = frame.f_locals.get("h") if frame is not None else None
                if handle is None or handle.cancelled():
                    return 0, False
                late_ns = overdue(asyncio.get_running_loop(), handle.when())
                return (max(self.left, now - late_ns), True) if late_ns is not None else (0, False)
            inner = getattr(inner, "cr_await", None)
        return 0, False

    def _name(self) -> str:
        code = self._inner.cr_code
        return f"{code.co_qualname} {code.co_filename}:{code.co_firstlineno}"


_SLEEP: Final = asyncio.sleep.__code__

#: The tasks that have opened spans: the watcher looks at those that are suspended, and takes those out that have none.
with_spans: weakref.WeakSet[Steps] = weakref.WeakSet()


def overdue(loop: AbstractEventLoop, due_s: float) -> int | None:
    """For how long (ns) a timer of that loop has been due; None where its clock is not known, or it is not due yet.

    uvloop's clock counts the same milliseconds as ``time.monotonic``, cut off, but stands still while steps run: asked
    after a long one it says when the turn began, and no timer would ever be late. Up to a millisecond is left out.
    """
    if isinstance(loop, BaseEventLoop):
        late_ns = int((loop.time() - due_s) * 1e9)
        return late_ns if late_ns >= 0 else None
    now_s = monotonic()
    if not type(loop).__module__.startswith("uvloop") or loop.time() > now_s:
        return None
    return max(0, int((now_s - due_s) * 1e9) - _MILLISECOND_NS)


def drop(stack: list[Open], reason: str) -> None:
    """Measure none of these spans any more."""
    for each in stack:
        each.reason = each.reason or reason
        each.thread = None
    stack.clear()


# ---- how the tasks' coroutines come to be wrapped


def wrapped(coroutine: Any) -> Any:
    """The same coroutine with its steps seen; what is not one of Python's own stays as it is."""
    return Steps(coroutine) if type(coroutine) is CoroutineType else coroutine


class Factory:
    """The task factory of a loop that is not asyncio's own (uvloop): wraps, then does what was done before."""

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self._before = before

    def __call__(self, loop: AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if self._before is not None:
            return self._before(loop, wrapped(coroutine), **options)
        return asyncio.Task(wrapped(coroutine), loop=loop, **options)


def adopt(loop: AbstractEventLoop) -> None:
    """See the tasks that a loop of another kind than asyncio's makes from now on."""
    if not installed() or isinstance(loop, BaseEventLoop):
        return
    before = loop.get_task_factory()
    if not isinstance(before, Factory):
        loop.set_task_factory(Factory(before))


def aiohttp(module: ModuleType) -> None:
    """A hook for the import of ``aiohttp.web_protocol``: what a connection and each of its requests run is seen."""

    def made(coroutine: Callable[..., Any], _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return wrapped(coroutine(*arguments, **named)) if installed() else coroutine(*arguments, **named)

    for method in ("start", "_handle_request"):
        try:
            wrapt.wrap_function_wrapper(module, f"RequestHandler.{method}", made)
        except Exception:
            guard.failed("tasks.aiohttp")


_hooked = False


def installed() -> bool:
    """Whether tasks are wrapped in this process."""
    return hasattr(BaseEventLoop.create_task, "_layerline")


def install() -> None:
    """Wrap the coroutines of all tasks made from now on, in every loop of this process and of its forks."""
    global _hooked
    if installed():
        return
    if not _hooked:
        _hooked = True
        wrapt.register_post_import_hook(aiohttp, "aiohttp.web_protocol")
    create_task, run = BaseEventLoop.create_task, asyncio.Runner.run

    def create(self: BaseEventLoop, coro: Any, **options: Any) -> Any:
        return create_task(self, wrapped(coro), **options)

    def run_adopted(self: asyncio.Runner, coro: Any, **options: Any) -> Any:
        if asyncio.coroutines.iscoroutine(coro) and asyncio._get_running_loop() is None:
            try:
                adopt(self.get_loop())
            except RuntimeError:
                pass  # closed: run() says so itself
            except Exception:
                guard.failed("tasks.run")
        return run(self, coro, **options)

    for ours, theirs in ((create, create_task), (run_adopted, run)):
        ours.__name__, ours.__qualname__, ours.__doc__ = theirs.__name__, theirs.__qualname__, theirs.__doc__
    create._layerline = create_task  # type: ignore[attr-defined]
    run_adopted._layerline = run  # type: ignore[attr-defined]
    BaseEventLoop.create_task = create  # type: ignore[method-assign]
    asyncio.Runner.run = run_adopted  # type: ignore[method-assign]


def uninstall() -> None:
    """Wrap no more tasks (tests)."""
    if installed():
        BaseEventLoop.create_task = BaseEventLoop.create_task._layerline  # type: ignore[attr-defined, method-assign]
        asyncio.Runner.run = asyncio.Runner.run._layerline  # type: ignore[attr-defined, method-assign]


def _forked() -> None:
    _here.log.clear()
    with_spans.clear()  # what the parent's tasks wait for is the parent's


os.register_at_fork(after_in_child=_forked)
