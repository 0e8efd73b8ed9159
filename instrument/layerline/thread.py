"""One thread's own clock: what the kernel says it did, read by the thread itself and credited to the span then on top.

Sources, none of which needs a privilege:

* on-CPU: ``CLOCK_THREAD_CPUTIME_ID`` (ns; 0.5 µs to read);
* system time, major faults, blocks, switches: ``getrusage(RUSAGE_THREAD)`` (0.5 µs);
* ready but without a core: field 2 of ``/proc/self/task/<tid>/schedstat`` (ns; 1.5 µs), from a file kept open, straight
  after. It grows only when the thread is given a core again, so it is not read where the thread has not been switched
  out since. Never field 1: it lags by up to a tick (4 ms at 250 Hz);
* block-I/O delay: field 42 of ``/proc/self/task/<tid>/stat`` (clock ticks; 3.2 µs), only where the kernel keeps it and
  only after a piece of time in which the thread slept for at least a millisecond: without a voluntary switch there
  was no such delay.
"""

from __future__ import annotations

import os
from resource import RUSAGE_THREAD, getrusage
from threading import get_ident, get_native_id
from time import thread_time_ns, time_ns
from typing import Final

from layerline.holders import Holders
from layerline.kernel import File, out_of_descriptors

_NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_SLEPT_NS: Final = 1_000_000
_DENSE_NS: Final = 50_000

#: Numbers in a span's list of pieces (start, end, cpu, wait) before neighbours are merged, and the most it exports.
_NUMBERS: Final = 4
ROOM: Final = 32 * _NUMBERS
SLICES: Final = 16


class Open:
    """An open span's own account: what its thread did while it was on top of the stack.

    ``pieces`` holds four numbers a piece: start and end (ns, UTC), CPU and wait (ns). The figures are class attributes
    until they change, as most of them never do.
    """

    meters: object = None  # the container's meters at its start, for an entry span
    entry = first = False  # a request that its process serves, and the first of its operation
    accepted: tuple[int, int, int] | None = None  # accept wait, of it busy, of it ready without a core (ns)
    queued: tuple[int, str] | None = None  # of it, while others' steps held its loop (ns), and who held it longest
    seen: dict[str, int] | None = None  # what the watcher saw its thread doing, and how often
    holders: Holders | None = None  # who may hold the lock that it was seen waiting for
    began = 0  # when it was opened as the lowest of its stack (ns, UTC); 0: the watcher shall not look
    cpu = wait = gc = blkio = 0
    major_faults = blocks_read = blocks_written = voluntary = involuntary = 0
    system = 0.0
    task: object = None  # the asyncio task that opened it (``layerline.tasks``)
    forks = 0  # how often this process was forked off since its first ancestor was started; kept by the account
    loop_wait = loop_low = held_ns = 0  # while others' steps held its loop: at most, at least, the longest of them
    loop_stood = loop_stood_low = 0  # of it, their thread stood ready without a core: at most, at least
    held_by = ""

    def __init__(self, tid: int, thread: Thread | None, reason: str | None) -> None:
        self.tid = tid  # the thread that opened it
        self.thread = thread  # whose stack it is on; None when it is on none
        self.reason = reason  # why it is not measured; None while it is
        self.pieces: list[int] = []
        self.born = Open.forks


class Thread:
    """A thread that has opened a span: its last reading and the stack of its open spans.

    Used by that thread alone, except that another thread may mark an ``Open`` as hopped.
    """

    __slots__ = (
        "__weakref__", "at", "blkio", "counts", "cpu", "ended", "ended_wait", "gc_from", "handed", "held", "ident",
        "late", "meters", "noted", "read_at", "schedstat", "stack", "stat", "system", "tid", "wait", "why",
    )  # fmt: skip

    def __init__(self, delays: bool) -> None:
        """Open the thread's files. ``delays``: whether the kernel keeps block-I/O delay (``kernel.task_delayacct``).

        Where schedstat cannot be read or is empty (no CONFIG_SCHED_INFO), it is None and nothing is measured.
        """
        self.tid = get_native_id()
        self.ident = get_ident()
        self.stack: list[Open] = []
        self.at = self.read_at = self.cpu = self.wait = self.blkio = self.gc_from = 0
        self.late = 0  # of its wait, what was found at the last reading and came after it
        self.ended = self.ended_wait = 0  # its last request's end (ns, UTC), and its wait by then
        self.noted = 0  # when a request came in whose span is not open yet (ns, UTC)
        self.meters: object = None  # as they stood then
        self.handed = 0  # when the work was handed over whose span starts next (ns, UTC; Account.begin)
        self.held: Open | None = None  # its account, if it is on the stack already
        self.system = 0.0
        self.counts: tuple[int, ...] = (0,) * 7 + (-1, -1)  # differs from any reading
        self.why = "unreadable"  # why it is not measured, where it is not
        self.schedstat: File | None = None
        self.stat: File | None = None
        open_files(self, delays)

    def read_blkio(self) -> int:
        """Time this thread has waited for block I/O (ns, in steps of a clock tick)."""
        raw = self.stat.read() if self.stat is not None else b""
        return int(raw[raw.rindex(b")") + 2 :].split()[39]) * _NS_PER_TICK

    def advance(self, at: int) -> None:
        """Take one reading at ``at`` (ns, UTC) and credit what passed since the last to the span on top.

        Within 50 µs of a reading the clock alone is asked, and the thread is taken to have been on the CPU: what that
        says too much is taken off what the next reading finds, so that no sum is ever exceeded.
        """
        before = self.at
        stack = self.stack
        if 0 <= at - self.read_at < _DENSE_NS and at >= before:
            spent = at - before
            if stack:
                top = stack[-1]
                if top.thread is not None:
                    top.cpu += spent
                    top.pieces += (before, at, spent, 0)
            self.at = at
            self.cpu += spent
            return
        cpu = thread_time_ns()
        usage = getrusage(RUSAGE_THREAD)
        system = usage[1]
        counts = usage[7:]  # majflt, nswap, inblock, oublock, msgsnd, msgrcv, nsignals, nvcsw, nivcsw
        last = self.counts
        wait = self.wait + self.late
        changed = counts != last  # mostly not
        if changed and counts[7:] != last[7:]:
            wait = int(self.schedstat.read().split()[1])  # type: ignore[union-attr]
        late = 0
        if wait != self.wait and (passed := time_ns() - at) >= _DENSE_NS:
            # It lost its core between the time stamp and this reading, as a thread does that has used up its quota: it
            # is stopped on the way out of a system call. What it waited since came after ``at``.
            late = min(wait - self.wait, passed)
        if stack:
            top = stack[-1]
            if top.thread is None:
                # It ended on another thread meanwhile: when, nobody can say, so nobody is credited.
                while stack and stack[-1].thread is None:
                    stack.pop()
            else:
                spent = cpu - self.cpu
                if spent < 0:  # the clock alone said too much
                    spent = 0
                    cpu = self.cpu
                waited = wait - late - self.wait
                top.cpu += spent
                if waited:
                    top.wait += waited
                if system != self.system:
                    top.system += system - self.system
                if at > before:
                    top.pieces += (before, at, spent, waited)
                if changed:
                    top.major_faults += counts[0] - last[0]
                    top.blocks_read += counts[2] - last[2]
                    top.blocks_written += counts[3] - last[3]
                    top.involuntary += counts[8] - last[8]
                    slept = counts[7] - last[7]
                    if slept:
                        top.voluntary += slept
                        asleep = at - before - spent - waited
                        if asleep >= _SLEPT_NS and self.stat is not None:
                            blkio = self.read_blkio()
                            # It comes in ticks of 10 ms, so a piece may be given what was left over by others before
                            # it; never more than it slept.
                            top.blkio += min(blkio - self.blkio, asleep)
                            self.blkio = blkio
                if len(top.pieces) > ROOM:
                    top.pieces = merged(top.pieces)
        self.at = self.read_at = at
        self.cpu = cpu
        self.wait = wait - late
        self.late = late
        self.system = system
        self.counts = counts

    def close(self) -> None:
        """Measure nothing from here on."""
        for file in (self.schedstat, self.stat):
            if file is not None:
                file.close()
        self.schedstat = self.stat = None


def open_files(thread: Thread, delays: bool) -> None:
    """Open the files of the thread that runs this; what cannot be read stays None, and ``why`` says why."""
    try:
        schedstat = File(f"/proc/self/task/{thread.tid}/schedstat")
        fields = schedstat.read().split()
        if len(fields) == 3 and fields[2] != b"0":  # a thread that runs has been given the CPU at least once
            thread.schedstat = schedstat
            if delays:
                thread.stat = File(f"/proc/self/task/{thread.tid}/stat", 1024)
                thread.blkio = thread.read_blkio()
    except (OSError, ValueError, IndexError) as problem:
        thread.stat = None
        if out_of_descriptors(problem):
            thread.why = "no_descriptor"


def merged(pieces: list[int], most: int = SLICES) -> list[int]:
    """The same pieces, at most ``most``: neighbours with the smallest gaps between them become one.

    A merged piece spans from the start of its first to the end of its last; CPU and wait add up.
    """
    starts, ends = pieces[0::4], pieces[1::4]
    excess = len(starts) - most
    if excess <= 0:
        return pieces
    gaps = sorted(range(1, len(starts)), key=lambda i: starts[i] - ends[i - 1])
    joined = set(gaps[:excess])
    out: list[int] = []
    for i in range(len(starts)):
        start, end, cpu, wait = pieces[4 * i : 4 * i + 4]
        if i in joined:
            out[-3] = end
            out[-2] += cpu
            out[-1] += wait
        else:
            out += (start, end, cpu, wait)
    return out


def sliced(pieces: list[int], start: int, end: int) -> tuple[int, ...]:
    """A span's slices as exported: offset from its start, length, CPU, wait, inside the span's own bounds."""
    if len(pieces) == _NUMBERS:  # most spans have no children
        first, last, cpu, wait = pieces
        if first >= start and last <= end:
            return (first - start, last - first, cpu, wait)
    if len(pieces) > SLICES * _NUMBERS:
        pieces = merged(pieces)
    out: list[int] = []
    for i in range(0, len(pieces), _NUMBERS):
        first, last, cpu, wait = pieces[i : i + 4]
        first, last = min(max(first, start), end), min(last, end)
        out += (first - start, max(0, last - first), cpu, wait)
    return tuple(out)
