"""Containers that are paused, killed or started again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.lab.subject import CALLEE, Subject, put
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import DemoError, wait_ready


@contextmanager
def started_anew(subject: Subject) -> Iterator[None]:
    """A new process for the request."""
    subject.restart()
    yield


@contextmanager
def frozen(subject: Subject, after_ms: int, milliseconds: int) -> Iterator[None]:
    """``docker pause`` in the middle of what is sent meanwhile."""
    container = subject.stage.place.container(subject.name)

    def freeze() -> None:
        time.sleep(after_ms / 1_000)
        container.pause()
        time.sleep(milliseconds / 1_000)
        container.unpause()

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def callee_restarted(subject: Subject) -> Iterator[None]:
    """``docker restart`` of the callee, which is down when the request begins."""
    container = subject.stage.place.container(CALLEE)
    thread = threading.Thread(target=container.restart, kwargs={"timeout": 0})
    thread.start()
    time.sleep(0.08)  # until it is down
    try:
        yield
    finally:
        thread.join()
        wait_again(subject.stage.place, CALLEE)


@contextmanager
def callee_killed(subject: Subject) -> Iterator[None]:
    """The callee outgrows its memory; the engine starts it again after the kernel has killed it."""
    with suppress(DemoError):  # it may be dead before it has answered
        put(f"{subject.stage.place.url(CALLEE)}/grow")
    time.sleep(0.08)  # until it has grown
    try:
        yield
    finally:
        wait_again(subject.stage.place, CALLEE)


def wait_again(place: Containers, name: str, timeout_s: float = 20) -> None:
    """Wait until a service that died answers again: the engine starts it. DemoError if it stays down."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            wait_ready(place, name)
            return
        except DemoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
