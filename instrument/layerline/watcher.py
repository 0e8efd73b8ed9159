"""The watcher: what a slow request was seen doing, by one thread of ours that looks at its thread from beside.

Once the lowest span of a thread's stack has been open for longer than a threshold, its thread is looked at every 20 ms:
Python frames (``sys._current_frames``), kernel state (field 3 of ``/proc/self/task/<tid>/stat``) and wait channel
(``/proc/self/task/<tid>/wchan``). What is seen is counted in the span then on top, and exported as
``layerline.samples``.

To look, the watcher must hold the interpreter lock, so a thread that computes in Python always looks asleep at a futex,
exactly like one that waits for a ``threading.Lock``. Two questions to the thread's CPU clock tell them apart:

* did it grow by nine tenths of the time since the last look? Then it was on the CPU all along;
* did it grow at all? Then the interpreter is given away for a millisecond and the clock is asked again. A thread that
  only waited for us goes on with its work; one at a lock stands still.

A thread that waits for the interpreter lock because *other* threads compute is counted as ``lock``, at a plain line of
Python. The correlator tells the two apart by the number of switches.

At most 64 threads are looked at, those whose requests have been open longest.

A suspended asyncio task is on no thread. Its coroutines say where it stands and what it awaits (``layerline.awaits``);
tasks are looked at as often as threads, and at most 64 of them. Their state is ``A``, and what they await takes the
place of the wait channel.

It sleeps for half the threshold or more while requests are open but none is slow, and waits for the next first span
when there has been none for a second. Never started: without requests, where gevent or eventlet took the threads.
"""

from __future__ import annotations

import sys
import weakref
from _thread import allocate_lock, start_new_thread  # the real ones: a later monkey patch does not reach them
from heapq import nsmallest
from threading import get_native_id
from time import clock_gettime_ns, monotonic_ns, sleep, time_ns
from types import FrameType
from typing import Final

from layerline import awaits, guard, locks, own, tasks
from layerline.holders import Holders, Looked, at_work
from layerline.kernel import File
from layerline.seen import kind, place, waits_in_pool
from layerline.thread import Open, Thread

#: One look stands for so long (ns).
EVERY_NS: Final = 20_000_000
#: A request is looked at for so long at most (ns): what is open longer is a stream or a job.
_LONGEST_NS: Final = 60_000_000_000
#: Without an open span for so long, the watcher waits to be woken (ns).
_IDLE_NS: Final = 1_000_000_000
#: How long the interpreter is given away to see who wants it (s), and the growth that tells (ns).
_GIVEN_AWAY_S: Final = 0.001
_GREW_NS: Final = 200_000
#: Distinct findings kept a span; the others are counted together.
DISTINCT: Final = 16
#: Looks that may fail before no more is looked.
_MOST_FAILURES: Final = 100
#: Threads, and tasks, that are looked at at once: a look at one takes up to 10 µs.
_MOST_THREADS: Final = 64
OTHERS: Final = "other - - - -:0"
#: Findings of a thread that may wait for another. One that works in short steps between short sleeps waits for the
#: interpreter lock each time, and gets it when we do: it is only ever seen asleep.
_BEHIND: Final = ("lock", "sleep")
#: Findings of a thread that may wait for a coroutine.
_ELSEWHERE: Final = ("lock", "socket", "other")


class Seen:
    """A thread that is being looked at: its files, and its CPU clock at the last look."""

    def __init__(self, thread: Thread) -> None:
        """Raises OSError if the thread is gone."""
        self.stat = File(f"/proc/self/task/{thread.tid}/stat")
        self.wchan = File(f"/proc/self/task/{thread.tid}/wchan")
        self.clock = (~thread.tid << 3) | 6  # Linux: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED (posix-timers.h)
        self.cpu = self.at = 0

    def state(self) -> tuple[str, str]:
        """Kernel state (one letter) and wait channel (``-`` where it waits for nothing or the kernel does not say)."""
        raw = self.stat.read()
        after = raw.rindex(b")") + 2
        wait = self.wchan.read().decode("ascii", "replace").strip()
        return chr(raw[after]), wait if wait not in ("", "0") else "-"


class Watcher:
    """Looks at the slow ones of the threads it is given. One a process; started by the first span."""

    def __init__(self, threads: weakref.WeakSet[Thread], threshold_ns: int) -> None:
        self._threshold = threshold_ns
        self._pause = max(EVERY_NS, threshold_ns // 2)
        self.forked(threads)

    def forked(self, threads: weakref.WeakSet[Thread]) -> None:
        """In a new process our thread is not there, and locks may have been held."""
        self._threads = threads
        self.idle = True  # the next first span has to call ``wake``
        self.looks = self.failures = 0
        self._stopped = False
        self._running = False
        self._waking = allocate_lock()
        self._bell = allocate_lock()
        self._bell.acquire()
        self._seen: dict[Thread, Seen] = {}

    def wake(self) -> None:
        """A thread's first span starts while nobody is looking."""
        if self._stopped or not self._waking.acquire(blocking=False):
            return
        try:
            if self.idle:
                self.idle = False
                if self._running:
                    if self._bell.locked():
                        self._bell.release()
                elif taken() is not None:
                    self._stopped = True
                    guard.once("watcher", "slow requests are not watched: %s has taken the threads", taken())
                else:
                    self._running = True
                    start_new_thread(self._run, ())
        except RuntimeError:
            self._stopped = True  # the interpreter is ending, or no thread can be had
        finally:
            self._waking.release()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._bell.locked():
            self._bell.release()

    def _run(self) -> None:
        own.name(get_native_id(), "watch")
        bell, idle_since = self._bell, monotonic_ns()
        due = 0  # when the next look is due (ns, monotonic); 0 while no request is slow
        while not self._stopped:
            try:
                slow, wait = self._slow()
                suspended, task_wait = self._suspended()
                if task_wait is not None:
                    wait = task_wait if wait is None else min(wait, task_wait)
                now = monotonic_ns()
                if slow or suspended:
                    if suspended:
                        look_at_tasks(suspended)
                    if slow:
                        self._look(slow)
                    else:
                        self._seen.clear()
                    due = max(due + EVERY_NS, now) if due else now + EVERY_NS
                    idle_since = now
                    sleep(max(0, due - monotonic_ns()) / 1e9)
                    continue
                due = 0
                self._seen.clear()
                if wait is not None:
                    idle_since = now
                    sleep(wait / 1e9)
                elif now - idle_since < _IDLE_NS:
                    sleep(self._pause / 1e9)
                else:
                    self.idle = True
                    # None began before it could see that we are idle.
                    if self._slow()[1] is None and self._suspended()[1] is None:
                        bell.acquire()
                    self.idle = False
                    idle_since = monotonic_ns()
            except Exception:  # it costs one look; what fails each time is given up
                self._seen.clear()
                self.failures += 1
                self._stopped = self._stopped or self.failures >= _MOST_FAILURES
                guard.failed("watcher")
                sleep(self._pause / 1e9)

    def _slow(self) -> tuple[list[Thread], int | None]:
        """Threads to look at now; and, if spans are open, how long (ns) until one of them can be slow."""
        try:
            threads = list(self._threads)
        except RuntimeError:  # one was added meanwhile
            return [], self._pause
        now, slow, soonest = time_ns(), [], None
        for thread in threads:
            lowest = bottom(thread)
            if lowest is None or not lowest.began:
                continue
            opened = now - lowest.began
            if opened > _LONGEST_NS:
                lowest.began = 0
            elif opened >= self._threshold:
                slow.append(thread)
            elif soonest is None or self._threshold - opened < soonest:
                soonest = self._threshold - opened
        if len(slow) > _MOST_THREADS:
            slow = nsmallest(_MOST_THREADS, slow, key=began)
        return slow, None if soonest is None and not slow else max(soonest or 0, self._pause)

    def _suspended(self) -> tuple[list[tasks.Steps], int | None]:
        """The same of asyncio tasks that are suspended with a span open."""
        try:
            found = list(tasks.with_spans)
        except RuntimeError:  # one was added meanwhile
            return [], self._pause
        now, slow, soonest = time_ns(), [], None
        for task in found:
            lowest = bottom(task)
            if lowest is None or not lowest.began:
                tasks.with_spans.discard(task)
                if (lowest := bottom(task)) is not None and lowest.began:  # it was opened meanwhile
                    tasks.with_spans.add(task)
                continue
            opened = now - lowest.began
            if opened > _LONGEST_NS:
                lowest.began = 0
            elif opened < self._threshold:
                soonest = min(soonest or self._threshold, self._threshold - opened)
            elif task.suspended:
                slow.append(task)
            else:
                soonest = min(soonest or self._threshold, self._pause)
        if len(slow) > _MOST_THREADS:
            slow = nsmallest(_MOST_THREADS, slow, key=began)
        return slow, None if soonest is None and not slow else max(soonest or 0, self._pause)

    def _look(self, threads: list[Thread]) -> None:
        """Look at these threads once.

        State, clock and frames of all are taken without giving the interpreter away, so they belong together: a thread
        that comes back from the kernel meanwhile cannot run Python.
        """
        self.looks += 1
        for gone in self._seen.keys() - set(threads):
            del self._seen[gone]
        frames = sys._current_frames()
        doubtful: list[tuple[Seen, int, Open, str, str, str, str, int | None]] = []
        others: dict[int, Looked] | None = None
        held: locks.Held | None = None
        for thread in threads:
            opened, frame = on_top(thread), frames.get(thread.ident)
            if frame is None:
                look_away(thread)  # it is gone, and left a span open
            if opened is None or frame is None:
                continue
            try:
                seen = self._seen.get(thread)
                if seen is None:
                    seen = self._seen[thread] = Seen(thread)
                state, wait = seen.state()
                now, cpu = monotonic_ns(), clock_gettime_ns(seen.clock)
            except (OSError, ValueError, IndexError):
                look_away(thread)  # gone, or not to be read
                self._seen.pop(thread, None)
                continue
            first, grown, passed = not seen.at, cpu - seen.cpu, now - seen.at
            seen.cpu, seen.at = cpu, now
            found, where = kind(state, wait), place(frame)
            if found in _ELSEWHERE and (waits := awaits.behind_thread(frame)) is not None and waits.own:
                count(opened, f"{waits.kind} A {waits.what} {waits.place}")
                continue
            going = state == "S" and wait == "-"  # falling asleep or waking up just now
            if (found in _BEHIND or going) and others is None:
                others = at_work(frames)
                held = locks.Held({ident: frames[ident] for ident in others}) if others else None
            held_by = holder_of(frame, held) if found == "lock" and held is not None else None
            if found == "lock" or going:
                if not going and waits_in_pool(frame):
                    found = "pool"
                elif not first and grown * 10 >= passed * 9:
                    found, state, wait = "cpu", "R", "-"
                elif first or going or grown >= _GREW_NS:
                    doubtful.append((seen, cpu, opened, found, state, wait, where, held_by))
                    continue
            count(opened, f"{found} {state} {wait} {where}")
            if found in _BEHIND:
                behind(opened, others, thread.ident, where, held_by)
        held = None  # it has frames and locks of the app's
        frames.clear()
        if doubtful:
            sleep(_GIVEN_AWAY_S)
            for seen, before, opened, found, state, wait, where, held_by in doubtful:
                try:
                    if clock_gettime_ns(seen.clock) - before >= _GREW_NS:
                        found, state, wait = "cpu", "R", "-"
                    elif wait == "-":
                        state, wait = seen.state()
                        found = kind(state, wait)
                except (OSError, ValueError, IndexError):
                    continue  # it ended
                count(opened, f"{found} {state} {wait} {where}")
                if found in _BEHIND and opened.thread is not None:
                    behind(opened, others, opened.thread.ident, where, held_by)


def behind(opened: Open, others: dict[int, Looked] | None, waiter: int, where: str, held_by: int | None = None) -> None:
    """Its thread was found waiting, perhaps for another: what those did meanwhile that may hold a lock."""
    if others:
        if opened.holders is None:
            opened.holders = Holders()
        opened.holders.look(others, waiter, where, held_by)


def holder_of(frame: FrameType, held: locks.Held) -> int | None:
    """Which of the others holds the lock that this frame waits for; None where the code does not tell."""
    try:
        lock = locks.wanted(frame)
        return None if lock is None else held.by(lock)
    except Exception:  # it costs the holder's name, not the look
        guard.failed("watcher.holder_of")
        return None


def look_at_tasks(suspended: list[tasks.Steps]) -> None:
    """Count in the span on top of each what its task awaits, and where the task stands that holds its lock."""
    held = awaits.HeldByTasks()
    for task in suspended:
        opened = on_top(task)
        if opened is not None and task.suspended and (found := task.waits()) is not None and on_top(task) is opened:
            count(opened, f"{found.kind} A {found.what} {found.place}")
            if found.kind == "lock":
                if opened.holders is None:
                    opened.holders = Holders()
                opened.holders.look_at_task(held.by(found.lock) if found.lock is not None else None)


def on_top(thread: Thread | tasks.Steps) -> Open | None:
    """The measured span that this thread or task works for right now.

    The one place that knows: where a thread runs an event loop, the top span of the task whose step runs.
    """
    try:
        opened = thread.stack[-1]
    except IndexError:
        return None
    return opened if opened.thread is not None else None


def bottom(thread: Thread | tasks.Steps) -> Open | None:
    """The lowest span of the stack that this thread or task works for right now."""
    try:
        return thread.stack[0]
    except IndexError:
        return None


def began(thread: Thread | tasks.Steps) -> int:
    """Since when its request has been open (ns, UTC)."""
    lowest = bottom(thread)
    return lowest.began if lowest is not None else time_ns()


def look_away(thread: Thread) -> None:
    """Look at its open spans no more."""
    if (lowest := bottom(thread)) is not None:
        lowest.began = 0


def count(opened: Open, what: str) -> None:
    """Count one finding in a span."""
    seen = opened.seen
    if seen is None:
        seen = opened.seen = {}
    if what not in seen and len(seen) >= DISTINCT:
        what = OTHERS
    seen[what] = seen.get(what, 0) + 1


def told(seen: dict[str, int]) -> tuple[str, ...]:
    """What was seen, as exported: ``count kind state wait function file:line``, most often first."""
    return tuple(f"{number} {what}" for what, number in sorted(seen.items(), key=lambda each: -each[1]))


def taken() -> str | None:
    """Who has replaced this process's threads by greenlets, if anybody: then there is no second thread to look from."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and (monkey.is_module_patched("threading") or monkey.is_module_patched("_thread")):
        return "gevent"
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        return "eventlet"
    return None
