"""Limits of the container, set while it runs: its own (``docker update``), or a CPU limit of the cgroup above it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab.subject import Subject
from layerline_api.demo.place import Limits


@contextmanager
def quota(subject: Subject, percent: int) -> Iterator[None]:
    """A CPU limit, in per cent of a core: the container's own (``docker update``) or its parent cgroup's."""
    ratio, period_us = percent / 100, subject.period_ms * 1_000
    if subject.parent is not None:
        with subject.parent.limited(ratio, period_us):
            yield
        return
    subject.stage.place.update(subject.name, Limits(quota_ratio=ratio, period_us=period_us))
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
    subject.stage.place.update(subject.name, Limits(cpuset=subject.stage.cores.subject))
    try:
        yield
    finally:
        subject.stage.place.update(subject.name, Limits(cpuset=subject.stage.all_cores))
