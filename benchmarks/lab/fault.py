"""What a fault is: which cause it must be called, how it is drawn, how it is done to a container, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from benchmarks.lab.way import CORES, SYNCHRONOUS, Way, ways

if TYPE_CHECKING:
    from benchmarks.lab.subject import Subject

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
    """What a fault needs of its container that is fixed when that is created, however it is run."""

    write_kib_per_second: int | None = None
    read_kib_per_second: int | None = None
    memory: bool = False
    """A container of its own for memory limits: they are not lifted without a trace."""
    database: bool = False
    """With a PostgreSQL beside it."""
    partner: bool = False
    """With another instrumented service beside it, to call."""

    def __str__(self) -> str:
        """For the report; empty if there is nothing special."""
        limits = ("write_kib_per_second", "read_kib_per_second")
        said = [f"{name} {value}" for name in limits if (value := getattr(self, name)) is not None]
        return ", ".join([*said, *(name for name in ("memory", "database", "partner") if getattr(self, name))])


@dataclass(frozen=True, slots=True)
class Expected:
    """Who must be blamed. ``entity``: ``subject``, ``supplier``, ``callee``, ``database`` … (``Subject.entity_id``)."""

    cause: str
    entity: str | None = "subject"
    constant: str | None = None
    """The parameter (milliseconds) that is the truth; None: what the client measured, less the other's constant."""
    also: tuple[str, ...] = ()
    """Causes at the same entity that are as right: acting on any of them mends the same thing."""
    because: str = ""
    """Why this cause and not the one next to it (the lock, the loop), and why ``also`` is as right."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every cause that is right."""
        return self.cause, *self.also


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
    servers: tuple[str, ...] = SYNCHRONOUS
    """What it can run under (``way.THREADS``)."""
    cores: tuple[str, ...] = CORES
    limit: bool = False
    """Whether it sets a CPU limit, whose period and place are then drawn."""
    least_threads: int = 1
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
    holder: bool = False
    """Whether the request waits for the app's holder thread: what held that up counts for the request (traced)."""
    quick: bool = True
    """Whether it is part of ``--quick``."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """Every way of running that it is drawn from."""
        return ways(self.servers, self.cores, self.limit, self.least_threads)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault with its parameters, and how its container is run."""

    number: int
    fault: Fault
    way: Way
    parameters: Parameters

    @property
    def container(self) -> Container:
        """The container that it needs."""
        place = self.way.place if self.way.below_parent else None
        return Container(self.fault.variant, replace(self.way, period_ms=None, place=place))


@dataclass(frozen=True, slots=True)
class Container:
    """A container that cases share; ``way`` without the period, which is set with the limit."""

    variant: Variant
    way: Way

    def __str__(self) -> str:
        """For progress."""
        below = "below a parent" if self.way.below_parent else ""
        return ", ".join(part for part in (str(self.way), below, str(self.variant)) if part)
