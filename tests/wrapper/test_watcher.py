"""The watcher: what a slow request's thread was seen doing, told apart by real threads in real waits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from layerline import guard
from layerline.attributes import RUNQUEUE_NS, SAMPLE_KINDS, SAMPLES, SAMPLES_EVERY_NS
from layerline.seen import kind
from layerline.thread import Open, Thread
from layerline.watcher import DISTINCT, EVERY_NS, OTHERS, Watcher, count, told
from waiting import PATIENCE_S, eventually
from wrapper.conftest import Traced


def kinds(traced: Traced, name: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in traced.figures(name).get(SAMPLES, ()):
        number, what, *_ = each.split(" ", 5)
        found[what] += int(number)
    return found


def looks(traced: Traced) -> int:
    """How often this thread's innermost span has been looked at so far."""
    return sum((traced.account._threads.thread.stack[-1].seen or {}).values())


def sleep_until_seen(traced: Traced, enough: int = 5) -> None:
    """Sleep until so many looks found that, however late the watcher gets a CPU, or this thread when it wakes up."""
    opened = traced.account._threads.thread.stack[-1]
    while sum(count for seen, count in list((opened.seen or {}).items()) if seen.startswith("sleep ")) < enough:
        time.sleep(0.1)


def ready_ratio(traced: Traced, name: str) -> float:
    """For how much of the span its thread stood ready without a CPU: looks find it computing then, as they should."""
    span = traced.spans()[name]
    return float(traced.figures(name).get(RUNQUEUE_NS, 0)) / ((span.end_time or 0) - (span.start_time or 0))


def busy() -> None:
    end = time.monotonic() + 0.5
    total = 0
    while time.monotonic() < end:
        for i in range(1000):
            total += i


def hashing() -> None:
    data, end = b"x" * 20_000_000, time.monotonic() + 0.5
    while time.monotonic() < end:
        hashlib.sha256(data).digest()


def sleeping() -> None:
    time.sleep(0.5)


def locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=0.5)


def receiving() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(None)
        threading.Timer(0.5, there.send, (b"x",)).start()
        here.recv(1)


def queued() -> None:
    with contextlib.suppress(queue.Empty):
        queue.Queue[int]().get(timeout=0.5)


def pooled() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0.5).result()


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (busy, "cpu"),
        (hashing, "cpu"),
        (sleeping, "sleep"),
        (locked, "lock"),
        (receiving, "socket"),
        (queued, "lock"),
        (pooled, "pool"),
    ],
)
def test_what_a_slow_span_does_is_seen(watched: Traced, work: Callable[[], None], expected: str) -> None:
    """Most looks find what the thread really did, and name the app's own function and file."""
    with watched.tracer.start_as_current_span("slow"):
        while looks(watched) < 8:
            work()
    found = kinds(watched, "slow")
    least = 0.7 - (0 if expected == "cpu" else ready_ratio(watched, "slow"))
    assert found[expected] >= least * sum(found.values()), watched.figures("slow")[SAMPLES]
    first = watched.figures("slow")[SAMPLES][0].split(" ", 5)
    assert first[4] == work.__name__
    assert first[5].rpartition(":")[0] == __file__
    assert watched.figures("slow")[SAMPLES_EVERY_NS] == EVERY_NS


def test_a_thread_that_computes_between_locks_is_not_called_locked(watched: Traced) -> None:
    """A thread that computes for half its time and sleeps for the other half is seen at both."""
    with watched.tracer.start_as_current_span("both"):
        while looks(watched) < 40:
            until = time.monotonic() + 0.013
            while time.monotonic() < until:
                pass
            time.sleep(0.013)
    found = kinds(watched, "both")
    total = sum(found.values())
    assert found["lock"] <= 0.3 * total, found
    assert 0.15 * total <= found["cpu"] <= (0.85 + ready_ratio(watched, "both")) * total, found


def test_a_look_counts_for_the_span_on_top(watched: Traced) -> None:
    """While a child is open its parent is not seen, and a quick request carries nothing."""
    with watched.tracer.start_as_current_span("parent"), watched.tracer.start_as_current_span("child"):
        sleep_until_seen(watched)
    with watched.tracer.start_as_current_span("quick"):
        pass
    assert kinds(watched, "child")["sleep"] >= 5
    assert SAMPLES not in watched.figures("parent")
    assert SAMPLES not in watched.figures("quick")


def test_looks_come_every_20_ms_at_most(watched: Traced) -> None:
    """Looks times their interval is never more than the time for which the request was open."""
    with watched.tracer.start_as_current_span("slow"):
        sleep_until_seen(watched, 20)
    span = watched.spans()["slow"]
    assert (sum(kinds(watched, "slow").values()) - 1) * EVERY_NS <= (span.end_time or 0) - (span.start_time or 0)


def test_it_is_idle_without_requests_and_comes_back(watched: Traced) -> None:
    """A second after the last span the watcher waits without waking; the next slow span is seen all the same."""
    with watched.tracer.start_as_current_span("first"):
        time.sleep(0.2)
    watcher = watched.account._watcher
    assert watcher is not None
    eventually(lambda: watcher.idle, "an idle watcher")
    with watched.tracer.start_as_current_span("second"):
        sleep_until_seen(watched)
    assert kinds(watched, "second")["sleep"] >= 5


def test_a_forked_child_has_a_watcher_of_its_own(watched: Traced) -> None:
    """A worker that was forked after the first request sees its own slow ones."""
    with watched.tracer.start_as_current_span("before"):
        time.sleep(0.1)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with watched.tracer.start_as_current_span("in child"):
                sleep_until_seen(watched)
            code = 0 if kinds(watched, "in child")["sleep"] >= 5 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_with_gevent_it_stays_off_and_says_so(
    watched: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where greenlets have taken the place of threads nobody looks, and the log says it once."""
    monkeypatch.setitem(sys.modules, "gevent.monkey", SimpleNamespace(is_module_patched=lambda name: True))  # type: ignore[arg-type]
    monkeypatch.setattr(guard, "_said", set())
    for name in ("one", "two"):
        with watched.tracer.start_as_current_span(name):
            time.sleep(0.15)
        assert SAMPLES not in watched.figures(name)
    assert caplog.text.count("gevent") == 1


def test_what_is_kept_is_bounded() -> None:
    """The seventeenth distinct finding and all after it are counted together; the most frequent comes first."""
    opened = Open(1, None, None)
    for i in range(40):
        count(opened, f"cpu R - f file name.py:{i}")
    count(opened, "cpu R - f file name.py:3")
    assert opened.seen is not None
    lines = told(opened.seen)
    assert len(lines) == DISTINCT + 1
    assert lines[:2] == (f"24 {OTHERS}", "2 cpu R - f file name.py:3")


@pytest.mark.parametrize(
    ("state", "wait", "expected"),
    [
        ("R", "-", "cpu"),
        ("S", "futex_wait_queue_me", "lock"),
        ("S", "hrtimer_nanosleep", "sleep"),
        ("S", "ep_poll", "socket"),
        ("S", "anon_pipe_read", "socket"),
        ("S", "do_wait", "other"),
        ("S", "-", "other"),
        ("D", "folio_wait_bit_common", "disk"),
        ("D", "rwsem_down_write_slowpath", "other"),
        ("T", "do_signal_stop", "other"),
    ],
)
def test_kinds_follow_state_and_channel(state: str, wait: str, expected: str) -> None:
    """Each kind is read from names that kernels give, old and new."""
    assert kind(state, wait) == expected
    assert expected in SAMPLE_KINDS


def test_a_thread_that_died_with_a_span_open_is_let_go(watched: Traced) -> None:
    """A span that is never ended on a thread that is gone is looked at no longer."""
    kept: list[object] = []
    thread = threading.Thread(target=lambda: kept.append(watched.tracer.start_span("left open")))
    thread.start()
    thread.join()
    account = next(iter(watched.account._all))
    eventually(lambda: account.stack[0].began == 0, "that it is let go")


def test_files_of_threads_that_are_quick_again_are_closed(watched: Traced) -> None:
    """While one request stays slow, others that were slow before it leave no file open."""

    def slow() -> None:
        with watched.tracer.start_as_current_span("other"):
            time.sleep(0.15)

    watcher = watched.account._watcher
    assert watcher is not None
    with watched.tracer.start_as_current_span("long"):
        for _ in range(2):
            threads = [threading.Thread(target=slow) for _ in range(3)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        eventually(lambda: len(watcher._seen) == 1, "that one file alone is open")


def test_two_threads_that_compute_share_the_interpreter(watched: Traced) -> None:
    """Of two threads that compute in Python, both are seen on CPU or waiting for the interpreter."""

    def compute(name: str) -> None:
        with watched.tracer.start_as_current_span(name):
            while looks(watched) < 20:
                busy()

    threads = [threading.Thread(target=compute, args=(name,)) for name in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for name in ("one", "two"):
        found = kinds(watched, name)
        # A thread that is just falling asleep or waking up shows no channel; asked twice, that is rare.
        assert found["cpu"] + found["lock"] >= 0.7 * sum(found.values()), watched.figures(name)[SAMPLES]
        assert found["cpu"] >= 1


def test_a_process_ends_while_it_is_watched() -> None:
    """The watcher keeps no process alive, idle or in the middle of a slow request."""
    script = (
        "import sys, time, threading\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from layerline.account import Account\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(Account(watch_ns=20_000_000))\n"
        "span = provider.get_tracer('x').start_span('slow')\n"
        "time.sleep(0.2)\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_it_is_a_watcher_of_its_account(watched: Traced) -> None:
    """Stopped with its account, it looks no more."""
    watcher = watched.account._watcher
    assert isinstance(watcher, Watcher)
    watched.account.shutdown()
    with watched.tracer.start_as_current_span("after"):
        time.sleep(0.2)
    assert SAMPLES not in watched.figures("after")


def test_a_look_that_fails_is_not_the_last(
    watched: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while looking is logged once and costs that look; the next ones are taken."""
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.setattr(guard, "_said", set())
    look, failures = Watcher._look, [ValueError("odd"), ValueError("odd")]

    def failing(watcher: Watcher, threads: list[Thread]) -> None:
        if failures:
            raise failures.pop()
        look(watcher, threads)

    monkeypatch.setattr(Watcher, "_look", failing)
    with watched.tracer.start_as_current_span("slow"):
        sleep_until_seen(watched, 1)
    assert [record.getMessage()[:14] for record in caplog.records if record.name == "layerline"] == ["watcher failed"]


def test_hundreds_of_slow_threads_are_not_all_looked_at() -> None:
    """A look takes bounded time: of many slow requests those are looked at that have been open longest."""
    now = time.time_ns()
    threads = [SimpleNamespace(stack=[SimpleNamespace(began=now - number * EVERY_NS)]) for number in range(50, 400)]
    slow, _ = Watcher(threads, 1)._slow()  # type: ignore[arg-type]
    assert 0 < len(slow) < 100
    assert slow[0] is threads[-1]
