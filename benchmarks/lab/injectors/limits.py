"""Limits of the container, set while it runs (``docker update``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab.stage import Subject
from layerline_api.demo.place import Limits


@contextmanager
def quota(subject: Subject, percent: int) -> Iterator[None]:
    """A CPU limit, in per cent of a core."""
    subject.stage.place.update(subject.name, Limits(quota_ratio=percent / 100))
    try:
        yield
    finally:
        subject.stage.place.update(subject.name, Limits())


@contextmanager
def memory(subject: Subject, limit_bytes: int, lifted_bytes: int = 4 << 30) -> Iterator[None]:
    """A memory limit."""
    subject.stage.place.update(subject.name, Limits(memory_bytes=limit_bytes))
    try:
        yield
    finally:
        subject.stage.place.update(subject.name, Limits(memory_bytes=lifted_bytes))


@contextmanager
def pinned(subject: Subject) -> Iterator[None]:
    """On one core instead of all."""
    cores = subject.stage.cores
    subject.stage.place.update(subject.name, Limits(cpuset=cores.subject))
    try:
        yield
    finally:
        subject.stage.place.update(subject.name, Limits(cpuset=f"{cores.subject},{cores.rest}"))
