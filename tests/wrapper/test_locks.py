"""Which lock a thread waits for and who holds it: real threads in code as people write it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from layerline import locks
from waiting import PATIENCE_S, eventually

shared = threading.Lock()


class Slotted:
    """A lock in a slot."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Shop:
    """Every way to reach a lock that is read, and some that are not."""

    of_the_class = threading.Lock()

    def __init__(self) -> None:
        self.lock, self.rlock, self.condition = threading.Lock(), threading.RLock(), threading.Condition()
        self.inner, self.several = Slotted(), [threading.Lock()]
        self.asked = 0

    @property
    def counted(self) -> threading.Lock:
        """A property is code of the app's: nobody may run it."""
        self.asked += 1
        return self.lock

    # ---- who holds one until ``leave`` is set

    def holds_with(self, leave: threading.Event) -> None:
        with self.lock:
            leave.wait()

    def holds_two(self, leave: threading.Event) -> None:
        with self.lock, shared:
            try:
                leave.wait()
            finally:
                self.asked += 0

    def holds_and_returns(self, leave: threading.Event) -> int:
        with self.lock:
            if self.asked:
                return 1
            return int(leave.wait())

    def holds_in_a_loop(self, leave: threading.Event) -> None:
        for _ in range(2):
            with self.lock:
                if self.asked:
                    continue
                self.asked = 1
                leave.wait()
            leave.wait()

    def holds_by_acquire(self, leave: threading.Event) -> None:
        self.lock.acquire()
        try:
            leave.wait()
        finally:
            self.lock.release()

    def holds_in_a_slot(self, leave: threading.Event) -> None:
        with self.inner.lock:
            self.deeper(leave)

    def holds_of_the_class(self, leave: threading.Event) -> None:
        with Shop.of_the_class:
            leave.wait()

    def holds_reentrant(self, leave: threading.Event) -> None:
        with self.rlock, self.rlock:
            leave.wait()

    def holds_condition(self, leave: threading.Event) -> None:
        with self.condition:
            leave.wait()

    def holds_in_a_list(self, leave: threading.Event) -> None:
        with self.several[0]:
            leave.wait()

    def holds_counted(self, leave: threading.Event) -> None:
        with self.counted:
            leave.wait()

    def deeper(self, leave: threading.Event) -> None:
        leave.wait()

    # ---- who stands in code with a lock, and does not hold it

    def held_before(self, leave: threading.Event) -> None:
        with self.lock:
            self.asked += 0
        leave.wait()

    def gave_it_back(self, leave: threading.Event) -> None:
        with self.condition:
            while not leave.is_set():
                self.condition.wait(PATIENCE_S)

    def held_in_the_loop_before(self, leave: threading.Event) -> None:
        for _ in range(2):
            with self.lock:
                if leave.is_set():
                    return
            leave.wait()

    def held_and_failed(self, leave: threading.Event) -> None:
        try:
            with self.lock:
                raise ValueError
        except ValueError:
            leave.wait()

    # ---- who waits

    def wants(self) -> None:
        with self.lock:
            pass

    def wants_shared(self) -> None:
        shared.acquire()
        shared.release()

    def wants_for_a_while(self) -> None:
        if self.lock.acquire(timeout=PATIENCE_S):
            self.lock.release()

    def wants_the_slot(self) -> None:
        inner = self.inner
        with inner.lock:
            pass

    def wants_of_the_class(self) -> None:
        with self.of_the_class:
            pass

    def wants_reentrant(self) -> None:
        with self.rlock:
            pass

    def wants_condition(self) -> None:
        with self.condition:
            pass

    def wants_in_a_list(self) -> None:
        with self.several[0]:
            pass

    def wants_counted(self) -> None:
        with self.counted:
            pass


@contextmanager
def thread(target: Callable[..., object], *arguments: Any) -> Iterator[int]:
    """Run this in a thread and yield the thread's identifier. The caller must let it end."""
    made = threading.Thread(target=target, args=arguments, daemon=True)
    made.start()
    yield made.ident or 0
    made.join(PATIENCE_S)


def stands_in(ident: int, function: str) -> bool:
    """Whether that thread's stack has come to a function of this name, and waits there."""
    frame = sys._current_frames().get(ident)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def asked_by(ident: int) -> Any:
    """The lock that it waits for, as soon as it waits for one."""
    return eventually(lambda: locks.wanted(sys._current_frames()[ident]), "a lock that is asked for", within_s=20)


@pytest.mark.parametrize(
    ("holds", "wants"),
    [
        ("holds_with", "wants"),
        ("holds_with", "wants_for_a_while"),
        ("holds_by_acquire", "wants"),
        ("holds_and_returns", "wants"),
        ("holds_in_a_loop", "wants"),
        ("holds_two", "wants"),
        ("holds_two", "wants_shared"),
        ("holds_in_a_slot", "wants_the_slot"),
        ("holds_of_the_class", "wants_of_the_class"),
        ("holds_reentrant", "wants_reentrant"),
        ("holds_condition", "wants_condition"),
    ],
)
def test_who_holds_it_is_found(holds: str, wants: str) -> None:
    """The holder is named among others who stand in the same code with another lock of the same name."""
    shop, other, leave = Shop(), Shop(), threading.Event()
    own = holds not in ("holds_two", "holds_of_the_class")  # else both would want the same lock
    leave_other = threading.Event()
    with ExitStack() as stack:
        stack.callback(leave.set)
        stack.callback(leave_other.set)
        beside = stack.enter_context(thread(getattr(other, holds) if own else other.held_before, leave_other))
        holder = stack.enter_context(thread(getattr(shop, holds), leave))
        eventually(lambda: stands_in(holder, "wait") and stands_in(beside, "wait"), "both at rest")
        waiter = stack.enter_context(thread(getattr(shop, wants)))
        lock = asked_by(waiter)
        frames = sys._current_frames()
        assert locks.Held({beside: frames[beside], holder: frames[holder]}).by(lock) == holder
        leave.set()
        leave_other.set()


@pytest.mark.parametrize("stands", ["held_before", "held_in_the_loop_before", "held_and_failed", "gave_it_back"])
def test_who_gave_it_back_holds_it_no_more(stands: str) -> None:
    """Behind a ``with``, or in the wait of a condition, the lock is free for others."""
    shop, leave = Shop(), threading.Event()
    with ExitStack() as stack:
        ident = stack.enter_context(thread(getattr(shop, stands), leave))
        eventually(lambda: stands_in(ident, "wait"), "it at rest")
        frame = sys._current_frames()[ident]
        for lock in (shop.lock, shop.condition.__dict__["_lock"]):
            assert locks.Held({ident: frame}).by(lock) is None
        leave.set()
        with shop.condition:
            shop.condition.notify_all()


@pytest.mark.parametrize("which", ["in_a_list", "counted"])
def test_what_cannot_be_told_names_nobody_and_runs_nothing(which: str) -> None:
    """A lock in a list, or behind a property, is not looked up: that could run code of the app's."""
    shop, leave = Shop(), threading.Event()
    with ExitStack() as stack:
        stack.callback(leave.set)
        holder = stack.enter_context(thread(getattr(shop, f"holds_{which}"), leave))
        eventually(lambda: stands_in(holder, "wait"), "it at rest")
        waiter = stack.enter_context(thread(getattr(shop, f"wants_{which}")))
        eventually(lambda: stands_in(waiter, f"wants_{which}"), "it waiting")
        asked = shop.asked
        frames = sys._current_frames()
        assert locks.wanted(frames[waiter]) is None
        assert shop.lock not in locks.held(frames[holder])
        assert shop.asked in (asked, asked + 1)  # by the waiter itself, at most
        leave.set()


def test_waiting_for_work_is_no_lock() -> None:
    """A queue's reader, a pool's idle thread and an event loop hold nothing and ask for nothing that somebody holds."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        (idle,) = pool._threads
        loop, done = asyncio.new_event_loop(), threading.Event()
        with thread(loop.run_forever) as running:
            for ident in (idle.ident or 0, running):
                eventually(lambda ident=ident: stands_in(ident, "_worker") or stands_in(ident, "select"), "it at rest")
                frame = sys._current_frames()[ident]
                assert shared not in locks.held(frame)
                assert locks.Held({ident: frame}).by(lock) is None if (lock := locks.wanted(frame)) else True
            loop.call_soon_threadsafe(loop.stop)
            done.set()
        loop.close()


def test_code_is_read_once_and_forgotten_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is made at run time does not pile up."""
    monkeypatch.setattr(locks, "_KNOWN_AT_MOST", 4)
    monkeypatch.setattr(locks, "_known", {})
    assert locks.locking(Shop.wants.__code__) is locks.locking(Shop.wants.__code__)
    for number in range(20):
        locks.locking(compile(f"with lock:\n    x = {number}", "made", "exec"))
    assert len(locks._known) <= 4
