"""Is what was said about a case right? Pure: a label and a verdict in, a score out.

The rules are those of the fault lab (benchmarks/lab/score.py): of several faults that are about as large, either may be
named first; all must be named; and what is named must be conclusive.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from layerline_api.evaluate.labels import Fault, Label

#: Two faults this near to each other in size: either may be named first.
EQUAL = 0.2
#: What counts as blame where nothing was wrong: as much as makes a request slow, and a tenth of it.
NOISE_NS, NOISE_RATIO = 50_000_000, 0.1


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody who is named: by a verdict, or by a simple rule, which knows no cause."""

    cause: str
    entity_type: str
    entity_id: str
    entity_name: str
    service: str = ""
    excess_ns: int | None = None
    would_mend: str | None = None
    """The layer that the verdict names; None where only the cause does."""

    @property
    def layer(self) -> str:
        """As the verdict says, else of the cause."""
        return self.would_mend or self.cause.partition(".")[0]

    def is_entity(self, wanted: str | None) -> bool:
        """Whether that is who is meant: by id, name or service, or by the address of a dependency."""
        if wanted is None:
            return True
        host, _, _ = self.entity_id.partition(":") if self.entity_type == "service" else ("", "", "")
        return wanted in (self.entity_id, self.entity_name, self.service, host) and wanted != ""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said about a case: whom it blames, the first first, and how sure it is."""

    culprits: tuple[Named, ...]
    parts: tuple[Named, ...]
    conclusive: bool
    duration_ns: int = 0
    incidents: int = 0
    """How many incidents it found in the window by itself."""
    failure: str | None = None
    """Why nothing could be said."""


@dataclass(frozen=True, slots=True)
class Score:
    """One case, judged."""

    label: Label
    said: Said
    first: bool
    """The first who is named is right: cause (or layer), and entity."""
    first_entity: bool
    third_entity: bool
    """Among the first three."""
    first_layer: bool
    third_layer: bool
    right: bool
    """The first is right, nobody is missing, and it is conclusive. Of a quiet case: nobody is blamed falsely."""
    abstained: bool
    false_blame: bool
    error_ns: tuple[int, ...]
    """By how much what is blamed on each fault is off, where its size is known."""
    error_ratios: tuple[float, ...]

    @property
    def is_hit(self) -> bool:
        """Right, or rightly silent."""
        return self.right or (self.abstained and self.label.expects_blind)


def score(label: Label, said: Said) -> Score:
    """One case against its label."""
    if said.failure is not None:
        return Score(label, said, False, False, False, False, False, False, True, False, (), ())
    if label.quiet:
        return _quiet(label, said)
    firsts, culprits = _may_be_first(label.faults), said.culprits
    entity, layer = (
        [any(fits(fault, one) for fault in firsts) for one in culprits[:3]] for fits in (_is_entity, _is_layer)
    )
    first = any(_is(fault, one) for fault in firsts for one in culprits[:1])
    missing = [fault for fault in label.faults if not any(_is(fault, one) for one in culprits)]
    abstained = not culprits or not said.conclusive
    errors = [(fault.ms * 1e6, _blamed_ns(fault, said.parts)) for fault in label.faults if fault.ms and fault.causes]
    return Score(
        label,
        said,
        first,
        any(entity[:1]),
        any(entity),
        any(layer[:1]),
        any(layer),
        first and not missing and not abstained,
        abstained,
        False,
        tuple(round(abs(blamed - truth)) for truth, blamed in errors),
        tuple(abs(blamed - truth) / truth for truth, blamed in errors),
    )


def _quiet(label: Label, said: Said) -> Score:
    noise_ns = max(NOISE_NS, round(NOISE_RATIO * said.duration_ns))
    own = {cause for fault in label.faults for cause in fault.causes}
    others = [one for one in said.culprits if one.cause not in own]
    guilty = any(one.excess_ns is None or one.excess_ns >= noise_ns for one in others)
    missed = bool(own) and not any(one.cause in own for one in said.culprits[:1])
    return Score(label, said, False, False, False, False, False, not guilty and not missed, False, guilty, (), ())


def _may_be_first(faults: Sequence[Fault]) -> list[Fault]:
    if any(fault.ms is None for fault in faults):
        return list(faults)
    largest = max((fault.ms or 0 for fault in faults), default=0)
    return [fault for fault in faults if (fault.ms or 0) >= (1 - EQUAL) * largest]


def _is(fault: Fault, named: Named) -> bool:
    return _is_entity(fault, named) and (named.cause in fault.causes if fault.causes else _is_layer(fault, named))


def _is_entity(fault: Fault, named: Named) -> bool:
    return named.is_entity(fault.entity)


def _is_layer(fault: Fault, named: Named) -> bool:
    return not fault.layers or named.layer in fault.layers


def _blamed_ns(fault: Fault, parts: Sequence[Named]) -> int:
    """The largest part of each cause that is right, added up."""
    blamed = 0
    for cause in fault.causes:
        found = [part.excess_ns or 0 for part in parts if part.cause == cause and part.is_entity(fault.entity)]
        blamed += max(found, default=0)
    return blamed


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of all cases that count; None where there is no such case."""

    faulty: int
    quiet: int
    set_aside: int
    right: float | None
    first: float | None
    first_entity: float | None
    third_entity: float | None
    first_layer: float | None
    third_layer: float | None
    abstained: float | None
    false_blame: float | None
    false_incidents: float | None
    median_error_ns: float | None
    median_error_ratio: float | None


def summarise(scores: Sequence[Score]) -> Figures:
    """What all of them come to."""
    counted = [one for one in scores if one.label.set_aside is None]
    faulty = [one for one in counted if not one.label.quiet]
    quiet = [one for one in counted if one.label.quiet]
    windows = [one for one in quiet if one.label.trace is None]
    seen = [one for one in faulty if not one.label.expects_blind]
    return Figures(
        faulty=len(faulty),
        quiet=len(quiet),
        set_aside=len(scores) - len(counted),
        right=share([one.is_hit for one in faulty]),
        first=share([one.first for one in faulty]),
        first_entity=share([one.first_entity for one in faulty]),
        third_entity=share([one.third_entity for one in faulty]),
        first_layer=share([one.first_layer for one in faulty]),
        third_layer=share([one.third_layer for one in faulty]),
        abstained=share([one.abstained for one in faulty]),
        false_blame=share([one.false_blame for one in quiet]),
        false_incidents=share([one.said.incidents > 0 for one in windows]),
        median_error_ns=_median([error for one in seen for error in one.error_ns]),
        median_error_ratio=_median([error for one in seen for error in one.error_ratios]),
    )


def share(values: Sequence[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(values) / len(values) if values else None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
