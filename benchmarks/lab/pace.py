"""How long a run takes: from what its cases took so far, before that from what they took elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from benchmarks.lab.fault import Case
from benchmarks.lab.record import Record

#: On two cores: a container comes and goes, with a usual of its own; a case; server, agent and the last verdicts.
CONTAINER_S, CASE_S, AROUND_S = 5.0, 4.5, 40.0
#: Fewer cases say nothing about the others.
ENOUGH = 20


def seconds(cases: Sequence[Case], done: Sequence[Record]) -> float:
    """For these cases, in this order; ``done``: the same run's so far, whatever their pieces."""
    containers = sum(1 for _ in groupby(cases, key=lambda case: case.container))
    guessed = CONTAINER_S * containers + CASE_S * len(cases)
    if len(done) < ENOUGH:
        return guessed + AROUND_S
    took_s = sum(max(one.ended_s for one in done if one.piece == piece) for piece in {one.piece for one in done})
    return took_s / len(done) * len(cases) + AROUND_S


def expected(cases: Sequence[Case], done: Sequence[Record]) -> str:
    """In words, for before they are run."""
    containers = sum(1 for _ in groupby(cases, key=lambda case: case.container))
    source = "at the pace so far" if len(done) >= ENOUGH else "on two quiet cores"
    return f"{len(cases)} cases in {containers} containers: about {seconds(cases, done) / 60:.0f} minutes, {source}."
