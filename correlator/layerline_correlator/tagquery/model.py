"""What a tag query says, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from layerline_correlator.tagquery.signals import Measure


class BadQuery(ValueError):
    """A text that is not a query: what is wrong, and at which column (from 1) of it."""

    def __init__(self, detail: str, column: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.column = column


class Tag(NamedTuple):
    """``key:value``: the key as people say it, and a value in which ``*`` stands for anything."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Not:
    """What ``of`` does not select."""

    of: Selection


@dataclass(frozen=True, slots=True)
class AllOf:
    """What all of them select; without any, everything."""

    of: tuple[Selection, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What at least one of them selects."""

    of: tuple[Selection, ...]


Selection = Tag | Not | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``avg(memory.working_set where … by …)``: one figure of a group of containers, each taken once."""

    function: str
    measure: Measure
    where: Selection | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A summand of a bound: ``factor`` times the aggregate; without one the number itself, in the measure's unit."""

    factor: float
    aggregate: Aggregate | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measure compared with the sum of ``bound``."""

    measure: Measure
    operator: str  # ">" | ">=" | "<" | "<=" | "=" | "!="
    bound: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """The containers that ``selection`` selects and for which every comparison holds, over ``over_ns``."""

    text: str
    selection: Selection
    comparisons: tuple[Comparison, ...]
    over_ns: int | None
