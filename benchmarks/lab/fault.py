"""What a fault is: which cause it must be called, how it is drawn, how it is done to a container, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.lab.stage import Subject

Parameters = Mapping[str, int]
"""What was drawn for a case; the unit is in the name (``lost_ms``, ``write_kib``, ``quota_percent``)."""


class Kind(StrEnum):
    """What a case tests."""

    SINGLE = "single"
    DOUBLE = "double"
    LOOK_ALIKE = "look-alike"
    HONEST = "honest"
    """Healthy and slow: more work was asked for, or the operation is always slow."""
    NONE = "none"
    """Nothing was done."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A container that cases share: what is fixed when it is created."""

    app: str = "flask"
    workers: int = 1
    threads: int = 1
    """More than one: gunicorn's ``gthread``."""
    write_kib_per_second: int | None = None
    read_kib_per_second: int | None = None
    quota_percent: int | None = None
    memory: bool = False
    """A container of its own for memory limits: they are not lifted without a trace."""
    database: bool = False
    """With a PostgreSQL beside it."""
    partner: bool = False
    """With another instrumented service beside it, to call."""
    wide: bool = False
    """On all cores, not on one."""

    def __str__(self) -> str:
        """For the report."""
        limits = ("write_kib_per_second", "read_kib_per_second", "quota_percent")
        said = [f"{name} {value}" for name in limits if (value := getattr(self, name)) is not None]
        said += [name for name in ("memory", "database", "partner", "wide") if getattr(self, name)]
        return ", ".join([f"{self.app}, {self.workers} × {self.threads}", *said])


@dataclass(frozen=True, slots=True)
class Expected:
    """Who must be blamed. ``entity``: ``subject``, ``supplier``, ``callee``, ``database`` … (``Subject.entity_id``)."""

    cause: str
    entity: str | None = "subject"
    constant: str | None = None
    """The parameter (milliseconds) that is the truth; None: what the client measured, less the other's constant."""


def nothing(subject: Subject, parameters: Parameters) -> AbstractContextManager[None]:
    """The trouble lies in the request's own path."""
    return nullcontext()


@contextmanager
def both(first: AbstractContextManager[None], second: AbstractContextManager[None]) -> Iterator[None]:
    """Two troubles at once; the second ends first."""
    with first, second:
        yield


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``inject`` surrounds the requests with the fault, ``arm`` each one of them."""

    name: str
    kind: Kind
    expected: tuple[Expected, ...]
    draw: Callable[[random.Random], Parameters]
    healthy: Callable[[Parameters], str]
    """Path of the request without the trouble; the same route as ``faulty``, so that it is one operation.
    ``{supplier}``, ``{callee}`` and ``{partner}`` in it become ``host:port``."""
    faulty: Callable[[Parameters], str]
    variant: Variant = Variant()
    inject: Callable[[Subject, Parameters], AbstractContextManager[None]] = nothing
    arm: Callable[[Subject, Parameters], AbstractContextManager[None]] = nothing
    neighbour: bool = False
    """Whether a neighbour is injected, which the verdict must name first."""
    blind: str | None = None
    """Why Layerline cannot tell, declared before it is measured; an abstention is then right."""
    restarts: bool = False
    """Whether containers are made or started meanwhile: the work of it is no disturbance."""
    traced: bool = False
    """Whether its truth is the kernel's own trace: several faults or threads do not add up."""
    quick: bool = True
    """Whether it is part of ``--quick``."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault with its parameters."""

    number: int
    fault: Fault
    parameters: Parameters
