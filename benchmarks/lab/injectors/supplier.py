"""The service that is called, and not instrumented: it answers later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab.subject import SUPPLIER, Subject, put


@contextmanager
def delay(subject: Subject, milliseconds: int) -> Iterator[None]:
    """Let the supplier answer so much later."""
    url = subject.stage.place.url(SUPPLIER)
    put(f"{url}/delay?ms={milliseconds}")
    try:
        yield
    finally:
        put(f"{url}/delay?ms=0")
