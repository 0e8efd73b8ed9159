"""Handles of the app itself: what it holds, computes or waits for, and a client that is in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab.stage import Subject
from layerline_api.demo.load import one


@contextmanager
def handle(subject: Subject, path: str) -> Iterator[None]:
    """Turn a handle just before the request; what it starts ends by itself."""
    subject.put(path)
    yield


@contextmanager
def siblings(subject: Subject, burn: int = 0, write: int = 0) -> Iterator[None]:
    """Threads of the app that compute or write."""
    subject.put(f"/siblings?burn={burn}&write={write}")
    try:
        yield
    finally:
        subject.put("/siblings")


@contextmanager
def occupied(subject: Subject, milliseconds: int) -> Iterator[None]:
    """Another client's request holds a worker meanwhile."""
    host, _, port = subject.url.removeprefix("http://").rpartition(":")
    thread = threading.Thread(target=one, args=(host, int(port), f"/occupy?ms={milliseconds}"))
    thread.start()
    time.sleep(0.03)  # until the worker has taken it
    try:
        yield
    finally:
        thread.join()
