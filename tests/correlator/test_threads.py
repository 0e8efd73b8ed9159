"""No thread ends unseen: it is logged, counted, started again, and named where one looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layerline_correlator import threads as module
from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.watch import Watch
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, EventRow, ResourceRow, resource_key
from layerline_correlator.store.store import Store
from layerline_correlator.threads import Threads
from waiting import PATIENCE_S, eventually


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    """Threads that are started again at once."""
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    made = Threads()
    yield made
    made.end()


def test_a_thread_that_fails_is_started_again(threads: Threads, caplog: pytest.LogCaptureFixture) -> None:
    """It is down until it runs again, and what ended it stays known."""
    runs: list[int] = []
    end = threading.Event()

    def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise SystemExit("away") if len(runs) == 1 else ValueError("bad\nsecond line")
        end.wait(PATIENCE_S)

    threads.start("worker", run)
    eventually(lambda: len(runs) == 3)
    (state,) = threads.states()
    assert (state.running, state.failures, state.last, state.down) == (1, 2, "ValueError: bad", False)
    assert threads.problems() == []
    assert "the thread worker failed: SystemExit: away" in caplog.text
    end.set()
    eventually(lambda: threads.states()[0].running == 0)
    assert threads.problems() == []  # it was done


def test_a_thread_that_cannot_be_started_again(threads: Threads) -> None:
    """It is named as long as the server runs."""

    def run() -> None:
        raise OSError(28, "No space left on device")

    threads.start("once", run, again=False).join(PATIENCE_S)
    (problem,) = threads.problems()
    assert "the thread once ended: OSError: [Errno 28] No space left on device" in problem


def test_any_other_thread_is_seen_too(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer, or a thread of a library, that ends by an exception is counted by its name."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    threads.watch_all()

    def run() -> None:
        raise KeyError("lost")

    stranger = threading.Thread(target=run, name="stranger")
    stranger.start()
    stranger.join(PATIENCE_S)
    assert [(state.name, state.failures) for state in threads.states()] == [("stranger", 1)]
    assert threads.problems() == []


def event(text: str) -> Batch:
    nobody = ResourceRow(resource_key({}), {})
    return Batch([nobody], events=[EventRow(nobody.resource, time.time_ns(), "deploy", text, {})])


@pytest.mark.parametrize(
    ("name", "where", "method"),
    [
        ("layerline-writer", Store, "_write_forever"),
        ("layerline-correlator", Correlator, "_correlate_forever"),
        ("layerline-incidents", Watch, "_watch_forever"),
    ],
)
def test_each_thread_of_the_store_recovers(
    threads: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: Any, method: str
) -> None:
    """While it is down the correlator says so; when it runs again data is taken, and the end is clean."""
    real: Callable[[Any], None] = getattr(where, method)
    broken = threading.Event()
    broken.set()

    def run(self: Any) -> None:
        if broken.is_set():
            raise RuntimeError("broken on purpose")
        real(self)

    monkeypatch.setattr(where, method, run)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=10**6), threads)
    try:
        eventually(lambda: any(name in problem for problem in correlator.health().problems))
        broken.clear()
        eventually(lambda: correlator.health().problems == ())
        correlator.append(event("after"))
        assert correlator.ready()
        (state,) = (state for state in threads.states() if state.name == name)
        assert (state.running, state.last) == (1, "RuntimeError: broken on purpose")
    finally:
        correlator.close()
    assert {state.running for state in threads.states()} == {0}
