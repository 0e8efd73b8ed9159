"""How right it was. Pure: what was said in, figures out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.lab.coarse.judge import Judged, Named
from benchmarks.lab.score import Goal, share


def right_entity(one: Judged) -> bool:
    """Whether ``why`` names the right entity first."""
    return one.why is not None and is_one_of(one.why.entity, one)


def right_layer(one: Judged) -> bool:
    """Whether it names it for the right layer."""
    return one.why is not None and one.why.layer in one.window.layers


def is_one_of(names: Iterable[str | None], one: Judged) -> bool:
    """Whether any of these names is one of those that are right."""
    return any(
        name and (name in one.window.entities or name.partition(" ")[0] in one.window.entities) for name in names
    )


def right_incident(one: Judged) -> bool:
    """Whether there is exactly one incident, and it names the right entity."""
    named: Named | None = one.incidents[0].named if len(one.incidents) == 1 else None
    return named is not None and is_one_of(named.entity, one)


def noticed_s(one: Judged) -> float | None:
    """How long after the fault began its first incident was noticed, in seconds; None where none was."""
    return min(((found.noticed_ns - one.window.from_ns) / 1e9 for found in one.incidents), default=None)


def goals(judged: Sequence[Judged]) -> tuple[Goal, ...]:
    """All figures and what they must be."""
    faulty = [one for one in judged if one.window.fault is not None]
    quiet = [one for one in judged if one.window.fault is None]
    waited = [seconds for one in faulty if (seconds := noticed_s(one)) is not None]
    return (
        Goal("right entity first", share([right_entity(one) for one in faulty]), 0.9, True),
        Goal("right layer first", share([right_layer(one) for one in faulty]), 0.85, True),
        Goal("false incidents on quiet windows", share([bool(one.incidents) for one in quiet]), 0.02, False),
        Goal(
            "quiet windows in which why blames somebody",
            share([one.why is not None and one.why.how not in ("suspect", "slow") for one in quiet]),
            0.02,
            False,
        ),
        Goal("faults with an incident", share([bool(one.incidents) for one in faulty]), 0.9, True),
        Goal("faults with more than one incident", share([len(one.incidents) > 1 for one in faulty]), 0.0, False),
        Goal("incidents that name the right entity", share([right_incident(one) for one in faulty]), 0.9, True),
        Goal("noticed after, in seconds (median)", statistics.median(waited) if waited else None, 20.0, False),
    )


def floors(judged: Sequence[Judged]) -> tuple[tuple[str, float | None], ...]:
    """How often two simple rules name the right entity."""
    faulty = [one for one in judged if one.window.fault is not None]
    return (
        ("largest CPU z-score", share([is_one_of([one.cpu_floor], one) for one in faulty])),
        ("largest gap change", share([is_one_of([one.gap_floor], one) for one in faulty])),
    )
