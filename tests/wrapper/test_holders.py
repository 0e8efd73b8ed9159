"""Who may hold a lock, and how long those waited for a CPU: real threads in real places."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue

import pytest

from layerline import holders
from layerline.holders import Holders, at_work
from waiting import PATIENCE_S, eventually


@contextmanager
def running(*targets: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Threads of these functions, until the end."""
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(PATIENCE_S)


def test_who_computes_may_hold_a_lock_and_who_waits_for_work_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread in the app's code is asked; one that waits in a queue, or in a pool for its next task, is not."""
    monkeypatch.setattr(holders, "_MOST_THREADS", 10_000)  # tests before this one may have left some
    stop, orders = threading.Event(), Queue[None]()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1_000))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        try:
            with running(compute, orders.get) as (computing, waiting):
                asked = eventually(
                    lambda: (found := at_work(sys._current_frames())).get(computing.ident or 0) and found,
                    "the computing thread is not asked",
                )
                assert waiting.ident not in asked
                assert {thread.ident for thread in pool._threads}.isdisjoint(asked)
                assert "compute" in asked[computing.ident or 0][2]
                orders.put(None)
                stop.set()
        finally:
            orders.put(None)
            stop.set()


@pytest.mark.filterwarnings("ignore:.*fork")
def test_the_main_thread_of_a_forked_worker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number there is the worker's own; Python goes on naming the parent's."""
    monkeypatch.setattr(holders, "_MOST_THREADS", 10_000)
    pid = os.fork()
    if pid == 0:
        os._exit(threading.get_ident() not in at_work(sys._current_frames()))
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    ("looks", "waited"),
    [
        ([{1: (0, 0, "a"), 2: (0, 50, "b")}, {1: (100, 40, "a"), 2: (100, 130, "b")}], (0.4, 0.8)),
        ([{1: (0, 0, "a"), 7: (0, 0, "here")}, {1: (100, 40, "a"), 7: (100, 0, "here")}], (0.4, 0.4)),  # waits too
        ([{1: (0, 0, "a")}, {1: (100, 40, "a"), 2: (100, 0, "b")}], (0.0, 0.4)),  # of 2 nothing is known
        ([{1: (0, 0, "a"), 9: (0, 0, "c")}, {1: (100, 400, "a"), 9: (100, 0, "c")}], (1.0, 1.0)),  # itself left out
        ([{1: (0, 0, "a")}], None),
        ([{}], None),
    ],
)
def test_the_least_and_the_most_that_one_of_them_waited(
    looks: list[dict[int, tuple[int, int, str]]], waited: tuple[float, float] | None
) -> None:
    """Shares of the time from the first look to the last, without the waiter and who waits at the same place."""
    holders = Holders()
    for others in looks:
        holders.look(others, 9, "here")
    assert holders.waited() == waited


@pytest.mark.parametrize(
    ("holders_seen", "waited", "held_by"),
    [
        ([1, 1, 1], (0.4, 0.4), "a"),  # of the other one nothing counts
        ([1, 1, None], (0.2 + 0.05, 0.2 + 0.45), "a"),  # half of the time nobody knows: what any of them waited
        ([1, 2, 2], (0.05 + 0.45, 0.45 + 0.45), "b"),  # from the first to the second look it changed hands
        ([1, None, None], (0.1, 0.9), None),
        ([None, None, None], (0.1, 0.9), None),
        ([7, 7, 7], (0.1, 0.9), None),  # a thread that nobody looks at
        ([9, 9, 9], (0.1, 0.9), None),  # the waiter itself
    ],
)
def test_whose_wait_counts_where_the_code_says_who_holds_it(
    holders_seen: list[int | None], waited: tuple[float, float], held_by: str | None
) -> None:
    """The holder's own, between two looks that found it holding; else what any of them waited."""
    share = {1: 0.4, 2: 0.9, 3: 0.1}
    holders = Holders()
    for number, holder in enumerate(holders_seen):
        at = 100 * number
        others = {ident: (at, round(at * share[ident]), name) for ident, name in ((1, "a"), (2, "b"), (3, "c"))}
        holders.look(others, 9, "here", holder)
    assert holders.waited() == pytest.approx(waited)
    assert holders.held_by() == held_by


def test_who_was_seen_once_is_read_again_at_the_end() -> None:
    """One look and the end of the span tell as much as two looks, if the thread still lives."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1_000))

    with running(compute) as (computing,):
        ident = computing.ident or 0
        try:
            asked = eventually(
                lambda: (found := at_work(sys._current_frames())).get(ident) and found,
                "the computing thread is not asked",
            )
            holders = Holders()
            holders.look({ident: asked[ident]}, 0, "here")
            assert holders.waited() is None
            holders.close()
            low, high = holders.waited() or (-1, -1)
            assert 0 <= low == high <= 1
        finally:
            stop.set()
