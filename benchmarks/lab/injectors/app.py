"""Handles of the app itself: what it holds, computes or waits for, and clients that are in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.lab.subject import Subject
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


def crowd(subject: Subject, for_each_core: int) -> AbstractContextManager[None]:
    """So many threads of the app that compute, for each core that it may run on."""
    return siblings(subject, burn=for_each_core * len(subject.cores))


@contextmanager
def occupied(subject: Subject, milliseconds: int) -> Iterator[None]:
    """Other clients' requests hold every thread of the server meanwhile."""
    with visited(subject, subject.way.threads, f"/occupy?ms={milliseconds}"):
        yield


@contextmanager
def visited(subject: Subject, clients: int, path: str) -> Iterator[None]:
    """So many other clients ask for this meanwhile, each once."""
    threads = [threading.Thread(target=one, args=(*subject.address(), path)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.03)  # until they have been taken
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
