"""The thread's own account of every span: on-CPU, waiting for a core, faults and switches, own time only.

Kept as a stack per thread, not subtracted afterwards: at every span start and end on a thread ONE reading is taken, and
what passed since the last is credited to the span then on top. So no figure can be negative, children are excluded
exactly, and the sum over a thread's spans never exceeds what the thread did.

An asyncio task has a stack of its own, which stands in for the thread's while the task runs (``layerline.tasks``); its
spans say ``layerline.account`` = ``task``.

What cannot be measured that way says so (``layerline.account`` = ``none``) with its reason:

* ``ended_out_of_order``: it ended while a later span of its thread was open, or an earlier one ended before it;
* ``thread_hop``: it ended on another thread, or in another asyncio task, than it started in;
* ``forked``: it was open when its process forked, and ended in the child. It is the parent's: ours does not send it;
* ``explicit_time``: its start or end was given explicitly and differs from now by more than 1 ms;
* ``generator``: it was opened in the body of a generator, which can be left half way; ``coroutine``: on a
  thread that runs an event loop, outside any task whose steps are seen; ``greenlet``: in a greenlet;
* ``unreadable``: the kernel does not show the thread's schedstat; ``no_descriptor``: it could not be opened, because
  the process has as many files open as it may.

A span of the last four kinds is not put on the stack: its thread's time goes to the measured span beneath, which is
right for the thread. One with an explicit start is, so that the span beneath is not charged for it.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from asyncio import _get_running_loop
from pathlib import Path
from sys import modules
from time import thread_time_ns, time_ns
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from layerline import accept, fast, guard
from layerline.attributes import (
    ACCEPT_BUSY_NS,
    ACCEPT_RUNQUEUE_NS,
    ACCEPT_WAIT_NS,
    ACCOUNT,
    ACCOUNT_REASON,
    BLKIO_NS,
    BLOCKS_READ,
    BLOCKS_WRITTEN,
    CPU_NS,
    FIRST_REQUEST,
    GC_NS,
    HOLDER_WAIT_HIGH,
    HOLDER_WAIT_LOW,
    INVOLUNTARY_SWITCHES,
    LOCK_HELD_BY,
    LOOP_HELD_BY,
    LOOP_QUEUED_NS,
    LOOP_RUNQUEUE_LOW_NS,
    LOOP_RUNQUEUE_NS,
    LOOP_WAIT_LOW_NS,
    LOOP_WAIT_NS,
    MAJOR_FAULTS,
    RUNQUEUE_NS,
    SAMPLES,
    SAMPLES_EVERY_NS,
    SLICES,
    SYSTEM_NS,
    THREAD_ID,
    VOLUNTARY_SWITCHES,
)
from layerline.caller import leaves_halfway
from layerline.cgroup import text
from layerline.kernel import out_of_descriptors
from layerline.meters import Meters
from layerline.tasks import LONG_NS, Steps, adopt, current
from layerline.thread import ROOM, Open, Thread, merged, sliced
from layerline.watcher import EVERY_NS, Watcher, taken, told

#: A reading taken this soon after a span's own time stamp stands for it, so that slices tile with the spans (ns).
_AT_ONCE_NS: Final = 20_000
#: A time stamp further from now than this was not taken now (ns).
_EXPLICIT_NS: Final = 1_000_000
#: Block-I/O delay is exported on entry spans and on spans at least this long (ns).
_LONG_NS: Final = 5_000_000
#: Operations of which the first request is noted; names that hold ids must not pile up.
_OPERATIONS: Final = 1_000
#: Spans that are never ended must not pile up.
_DEEPEST: Final = 256
#: What the extension writes, in its order.
_NAMES: Final = (
    THREAD_ID, ACCOUNT, CPU_NS, RUNQUEUE_NS, SYSTEM_NS, MAJOR_FAULTS, VOLUNTARY_SWITCHES, INVOLUNTARY_SWITCHES,
    BLOCKS_READ, BLOCKS_WRITTEN, GC_NS, SLICES, BLKIO_NS,
)  # fmt: skip


class Account(SpanProcessor):
    """Writes the thread's account into every span as it ends, and the container's meters into entry spans."""

    def __init__(self, meters: Meters | None = None, watch_ns: int | None = None, extension: Any = fast.MODULE) -> None:
        """``watch_ns``: look at the threads of requests that have been open longer; None: never.

        ``extension``: ``layerline._fast``, to which the usual case is handed; None: all is done in Python.
        """
        self._meters = meters
        self._threads = threading.local()
        self._all: weakref.WeakSet[Thread] = weakref.WeakSet()
        self._watcher = Watcher(self._all, watch_ns) if watch_ns is not None else None
        self._delays = delays_kept()
        self._pid = os.getpid()
        self._served: set[str] = set()
        self._extension = extension
        self._open: type[Open] = Open if extension is None else extension.Open
        self._thread: type[Thread] = Thread if extension is None else fast.thread_type(extension)
        self._hooks: Any = None
        if extension is not None:
            self._hooks = extension.Hooks(
                self, self._threads, self.on_start, self._on_ending, _get_running_loop, in_greenlet, _NAMES,
                _AT_ONCE_NS, _EXPLICIT_NS, _LONG_NS,
            )  # fmt: skip
            self.on_start = self._hooks.on_start  # type: ignore[method-assign]
            self._on_ending = self._hooks.on_ending  # type: ignore[method-assign]
        gc.callbacks.append(self._collecting)
        forked = weakref.WeakMethod(self._forked)

        def after() -> None:
            if (method := forked()) is not None:
                method()

        os.register_at_fork(after_in_child=after)

    # ---- what the SDK calls

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span starts on this thread."""
        try:
            now = time_ns()
            start: int = span._start_time  # type: ignore[assignment]
            try:
                thread: Thread = self._threads.thread
            except AttributeError:
                thread = self._meet()
            loop = _get_running_loop()
            task = None
            if thread.held is not None and thread.handed == start:
                opened, thread.held = thread.held, None
            elif loop is not None and (task := current()) is None:
                opened = self._open(thread.tid, None, "coroutine")
                adopt(loop)
            elif thread.schedstat is None:
                opened = self._open(thread.tid, None, thread.why)
            elif "greenlet" in modules and in_greenlet():
                opened = self._open(thread.tid, None, "greenlet")
                if self._watcher is not None and self._watcher.idle and taken() is not None:
                    self._watcher.wake()  # to say that it will not look
            elif (reason := leaves_halfway()) is not None and (
                reason != "coroutine" or (task := current()) is None  # a forked child has no running loop
            ):
                opened = self._open(thread.tid, None, reason)
            else:
                opened = self._open(thread.tid, thread, None)
                if 0 <= now - start <= _AT_ONCE_NS:
                    now = start
                elif thread.noted == start == thread.at:
                    now = 0  # the reading has been taken
                elif (
                    not -_EXPLICIT_NS <= now - start <= _EXPLICIT_NS
                    and start != thread.handed
                    and given("start", "start_time")
                ):
                    opened.reason = "explicit_time"
                try:
                    if task is not None:
                        opened.task = task
                        task.enter(thread, now)
                    stack = thread.stack
                    if now:
                        thread.advance(now)
                except (OSError, ValueError, IndexError) as problem:
                    opened = self._open(thread.tid, None, self._lost(thread, problem))
                else:
                    self._push(thread, opened)
                    if len(stack) > _DEEPEST:
                        abandon(stack, "ended_out_of_order", 0, 1)
            span._layerline_open = opened  # type: ignore[attr-defined]
            parent = span._parent
            if parent is None or parent.is_remote:
                self.entered(span, opened, thread, start)
        except Exception:
            guard.failed("account.on_start")

    def entered(self, span: Span, opened: Open, thread: Thread, start: int) -> None:
        """A span has started that has no parent in this process: perhaps a request."""
        if self._meters is not None:
            noted = thread.noted == start and thread.meters is not None
            opened.meters = thread.meters if noted else self._meters.begin(start)
            thread.meters = None
        if span.kind is SpanKind.SERVER:
            opened.entry = True
            if span.name not in self._served and len(self._served) < _OPERATIONS:
                self._served.add(span.name)
                opened.first = True
            self._accepted(span, opened, thread, start)

    def _on_ending(self, span: Span) -> None:
        """A span ends on this thread: its attributes are closed to everybody else, so they are written straight."""
        try:
            try:
                opened: Open = span._layerline_open  # type: ignore[attr-defined]
            except AttributeError:
                return  # it started before we came
            now = time_ns()
            start: int = span._start_time  # type: ignore[assignment]
            end: int = span._end_time  # type: ignore[assignment]
            at_once = 0 <= now - end <= _AT_ONCE_NS
            attributes = span._attributes._dict  # type: ignore[union-attr]
            thread = opened.thread
            if opened.born != Open.forks:
                opened.reason = "forked"
            if thread is not None:
                self._close(opened, thread, end if at_once else now)
            if (
                opened.reason is None
                and not at_once
                and not -_EXPLICIT_NS <= now - end <= _EXPLICIT_NS
                and given("end", "end_time")
            ):
                opened.reason = "explicit_time"
            attributes[THREAD_ID] = opened.tid
            if opened.entry:
                self.ending_entry(opened, attributes, thread, end)
            if opened.reason is None:
                attributes[ACCOUNT] = "thread" if opened.task is None else "task"
                attributes[CPU_NS] = opened.cpu
                attributes[RUNQUEUE_NS] = opened.wait
                attributes[SYSTEM_NS] = int(opened.system * 1e9 + 0.5)
                attributes[MAJOR_FAULTS] = opened.major_faults
                attributes[VOLUNTARY_SWITCHES] = opened.voluntary
                attributes[INVOLUNTARY_SWITCHES] = opened.involuntary
                attributes[BLOCKS_READ] = opened.blocks_read
                attributes[BLOCKS_WRITTEN] = opened.blocks_written
                attributes[GC_NS] = opened.gc
                attributes[SLICES] = sliced(opened.pieces, start, end)
                if opened.task is not None:
                    waited(opened, attributes)
                if self._delays and thread is not None and thread.stat is not None:
                    parent = span._parent
                    if end - start >= _LONG_NS or parent is None or parent.is_remote:
                        attributes[BLKIO_NS] = opened.blkio
            else:
                attributes[ACCOUNT] = "none"
                attributes[ACCOUNT_REASON] = opened.reason
            if opened.queued is not None or opened.seen is not None or opened.meters is not None:
                self.ending_more(opened, attributes, end if at_once else now)
        except Exception:
            guard.failed("account.on_ending")

    def ending_entry(self, opened: Open, attributes: dict[str, Any], thread: Thread | None, end: int) -> None:
        """A request ends: what it waited before it began, and since when its thread is free."""
        if opened.first:
            attributes[FIRST_REQUEST] = 1
        if opened.accepted is not None:
            accepted = opened.accepted
            attributes[ACCEPT_WAIT_NS], attributes[ACCEPT_BUSY_NS], attributes[ACCEPT_RUNQUEUE_NS] = accepted
        if thread is not None:
            thread.ended, thread.ended_wait = end, thread.wait

    def ending_more(self, opened: Open, attributes: dict[str, Any], at: int) -> None:
        """What few spans have: what held its loop, what the watcher saw, what the container's meters say."""
        if opened.queued is not None:
            attributes[LOOP_QUEUED_NS], held_by = opened.queued
            if opened.queued[0] > attributes.get(LOOP_WAIT_NS, 0):  # else who held it while it was suspended is told
                attributes[LOOP_HELD_BY] = held_by
        if opened.seen is not None:
            attributes[SAMPLES] = told(opened.seen)
            attributes[SAMPLES_EVERY_NS] = EVERY_NS
            if opened.holders is not None:
                opened.holders.close()
                if (waited_by_holder := opened.holders.waited()) is not None:
                    attributes[HOLDER_WAIT_LOW], attributes[HOLDER_WAIT_HIGH] = waited_by_holder
                if (lock_held_by := opened.holders.held_by()) is not None:
                    attributes[LOCK_HELD_BY] = lock_held_by
        if opened.meters is not None and self._meters is not None and opened.reason != "explicit_time":
            attributes.update(self._meters.gained(opened.meters, at))

    def failed(self, where: str, problem: Exception) -> None:
        """The extension has failed."""
        try:
            raise problem
        except Exception:
            guard.failed(where)

    def now(self) -> int:
        """The time (ns, UTC), with a reading of this thread and of the meters taken at that very moment.

        For instrumentations that note when a request came in and open its span later, with that time as its start
        (Flask's): the span is then measured from there. Without it, a request whose thread lost the CPU in between,
        just the slow one, would be left out for its explicit time.
        """
        at = time_ns()
        try:
            try:
                thread: Thread = self._threads.thread
            except AttributeError:
                thread = self._meet()
            if thread.schedstat is not None:
                thread.advance(at)
                thread.noted = at
                thread.meters = self._meters.begin(at) if self._meters is not None else None
        except Exception:
            guard.failed("account.now")
        return at

    def begin(self, handed: int) -> None:
        """This thread begins with work that was handed over at ``handed`` (ns, UTC); its span opens now, from then.

        Such a span is measured from now on: its start is explicit on purpose.
        """
        try:
            self._mine().handed = handed
        except Exception:
            guard.failed("account.begin")

    def hold(self) -> Open | None:
        """Measure this thread from now on for a span that may be made later (``give``), or never (``drop``)."""
        try:
            thread = self._mine()
            if thread.schedstat is None or ("greenlet" in modules and in_greenlet()):
                return None
            thread.advance(time_ns())
            opened = self._open(thread.tid, thread, None)
            self._push(thread, opened)
            return opened
        except Exception:
            guard.failed("account.hold")
        return None

    def give(self, opened: Open, handed: int) -> None:
        """The next span of this thread, with the start ``handed`` (ns, UTC), is the one that was measured."""
        thread = self._mine()
        thread.handed, thread.held = handed, opened

    def drop(self, opened: Open) -> None:
        """No span will be made for it."""
        try:
            if opened.thread is not None:
                self._close(opened, opened.thread, time_ns())
        except Exception:
            guard.failed("account.drop")

    def suspend(self, span: Span) -> None:
        """The span goes on later, perhaps on another thread (``resume``): until then no thread works for it."""
        try:
            opened: Open = span._layerline_open  # type: ignore[attr-defined]
            if opened.thread is not None:
                self._close(opened, opened.thread, time_ns())
        except Exception:
            guard.failed("account.suspend")

    def resume(self, span: Span) -> None:
        """A suspended span goes on, on this thread. In between it neither ran nor waited for a core."""
        try:
            opened: Open = span._layerline_open  # type: ignore[attr-defined]
            if opened.reason is not None or opened.thread is not None:
                return
            thread, now = self._mine(), time_ns()
            if thread.schedstat is None or ("greenlet" in modules and in_greenlet()):
                opened.reason = "thread_hop"
                return
            thread.advance(now)
            pieces = opened.pieces
            if pieces and pieces[-3] < now:
                pieces += (pieces[-3], now, 0, 0)
                if len(pieces) > ROOM:
                    opened.pieces = merged(pieces)
            opened.thread = thread
            self._push(thread, opened)
        except Exception:
            guard.failed("account.resume")

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing: all is written before."""

    def shutdown(self) -> None:
        """Stop watching, and listening to the garbage collector."""
        if self._watcher is not None:
            self._watcher.stop()
        if self._collecting in gc.callbacks:
            gc.callbacks.remove(self._collecting)

    def _accepted(self, span: Span, opened: Open, thread: Thread, start: int) -> None:
        """Note what the request waited for its handler, and move the span's start back to its arrival.

        Of the wait, the thread was busy until it ended its previous request, and then stood ready without a core. An
        event loop has no previous request; of it is known how long other tasks held it.
        """
        arrival = accept.arrival()
        looped = _get_running_loop() is not None
        if arrival is None or not (opened.reason is None or (looped and opened.reason == "coroutine")):
            return
        waited = start - arrival
        if waited < accept.SHORTEST_NS:
            opened.accepted = (0, 0, 0)
            return
        if looped:
            opened.accepted = (waited, 0, 0)
            opened.queued = accept.held(arrival, start)
        else:
            busy = min(max(0, thread.ended - arrival), waited)
            opened.accepted = (waited, busy, min(max(0, thread.wait - thread.ended_wait), waited - busy))
        if self._meters is not None:
            opened.meters = self._meters.since(opened.meters, arrival)
        span._start_time = arrival

    # ---- the stack

    def _push(self, thread: Thread, opened: Open) -> None:
        """Put a span on top of its thread's stack."""
        stack = thread.stack
        stack.append(opened)
        if len(stack) == 1:
            opened.began = thread.at
            watcher = self._watcher
            if watcher is not None and watcher.idle:
                watcher.wake()

    def _close(self, opened: Open, thread: Thread, at: int) -> None:
        """Take an ended span off its thread's stack."""
        try:
            here: Thread | None = self._threads.thread
        except AttributeError:
            here = None
        task: Steps | None = opened.task  # type: ignore[assignment]
        if opened.entry and here is thread and task is not None and task is not current() and opened in task.stack:
            # Another task of its loop sends the end of the response (Starlette's streamed ones): the request is over,
            # and what its own task did is known. A span above it (the wait for the client to leave) goes on without it.
            task.finish(opened, at)
            opened.thread = None
            return
        if here is not thread or ((task or _get_running_loop()) is not None and task is not current()):
            opened.reason = "thread_hop"
            opened.thread = None  # its own thread finds it closed and drops it (Thread.advance)
            return
        stack = thread.stack
        try:
            thread.advance(at)
        except (OSError, ValueError, IndexError) as problem:
            self._lost(thread, problem)
        if stack and stack[-1] is opened:
            stack.pop()
        elif opened in stack:
            # Spans above it are still open: from here on the thread works for neither of them alone, so what it does
            # goes to the span beneath.
            abandon(stack, "ended_out_of_order", stack.index(opened))
        opened.thread = None

    def _lost(self, thread: Thread, problem: BaseException) -> str:
        """A thread whose files can no longer be read: none of its open spans is measured. Why, in a word.

        None that comes is measured either, unless it was for want of a descriptor.
        """
        if out_of_descriptors(problem):
            abandon(thread.stack, "no_descriptor")
            return "no_descriptor"
        abandon(thread.stack, "unreadable")
        thread.close()
        return "unreadable"

    def _mine(self) -> Thread:
        """This thread's account."""
        try:
            thread: Thread = self._threads.thread
        except AttributeError:
            return self._meet()
        return thread

    def _meet(self) -> Thread:
        """The account of a thread that opens its first span."""
        thread = self._thread(self._delays)
        self._threads.thread = thread
        self._all.add(thread)
        if self._meters is not None:
            self._meters.met(thread.tid)
        return thread

    # ---- the process

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        """The garbage collector starts or stops on this thread: its CPU time belongs to the span on top."""
        try:
            thread: Thread = self._threads.thread
        except AttributeError:
            return
        if not thread.stack:
            return
        if phase == "start":
            thread.gc_from = thread_time_ns()
        elif thread.gc_from:
            thread.stack[-1].gc += thread_time_ns() - thread.gc_from
            thread.gc_from = 0

    def _forked(self) -> None:
        """In a forked child: the parent's threads are not here, and their files show the parent."""
        Open.forks += 1
        if self._extension is not None:
            self._extension.forked(Open.forks)
        for thread in list(self._all):
            abandon(thread.stack, "thread_hop")
            thread.close()
        self._all = weakref.WeakSet()
        if self._watcher is not None:
            self._watcher.forked(self._all)
        self._threads = threading.local()
        if self._hooks is not None:
            self._hooks.threads = self._threads
        self._delays = delays_kept()
        self._served = set()
        if self._meters is not None:
            self._meters.forked()


def waited(opened: Open, attributes: dict[str, object]) -> None:
    """What a task's span says of its loop. Less than 1 ms is 0, which was measured, and nobody held it."""
    if opened.loop_wait < LONG_NS:
        attributes[LOOP_WAIT_NS] = 0
        return
    attributes[LOOP_WAIT_NS] = opened.loop_wait
    attributes[LOOP_WAIT_LOW_NS] = opened.loop_low
    attributes[LOOP_RUNQUEUE_NS] = opened.loop_stood
    attributes[LOOP_RUNQUEUE_LOW_NS] = opened.loop_stood_low
    attributes[LOOP_HELD_BY] = opened.held_by


def abandon(stack: list[Open], reason: str, first: int = 0, last: int | None = None) -> None:
    """Take spans off the stack that are open but no longer measured: from ``first`` up to ``last``, or to the top."""
    for each in stack[first:last]:
        each.reason = reason
        each.thread = None
    del stack[first:last]


def given(function: str, argument: str) -> bool:
    """Whether OpenTelemetry's ``Span.start`` or ``Span.end`` was called with an explicit time.

    Asked only when the time stamp is not now: a thread may also have lost the CPU right after it took the stamp.
    Where the frame is not found the answer is yes.
    """
    frame = sys._getframe(2)
    for _ in range(6):
        if frame.f_code.co_name == function and argument in frame.f_locals:
            return frame.f_locals[argument] is not None
        if frame.f_back is None:
            break
        frame = frame.f_back
    return True


def in_greenlet() -> bool:
    """Whether this code runs in a greenlet other than its thread's own."""
    current = getattr(sys.modules["greenlet"], "getcurrent", None)
    return current is not None and current().parent is not None


def delays_kept() -> bool:
    """Whether the kernel keeps block-I/O delay (``kernel.task_delayacct``, off by default since Linux 5.14).

    Read when the process starts or has just been forked, as a task keeps what was set when it was made. Where it is
    off, field 42 of ``stat`` is 0 whatever happens: a false zero.
    """
    return text(Path("/proc/sys/kernel/task_delayacct")).strip() == "1"
