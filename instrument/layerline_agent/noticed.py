"""What an agent noticed about its own work, as events of the machine: readings lost, no engine, a clock set anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from layerline.attributes import (
    DROPPED,
    DROPPED_FROM_NS,
    DROPPED_POINTS,
    DROPPED_REASON,
    DROPPED_TO_NS,
    ENGINE_AWAY,
    SEEN_FROM_NS,
    SEEN_TO_NS,
)
from layerline_agent.spool import Loss


@dataclass(frozen=True, slots=True)
class Noticed:
    """One event of the machine."""

    name: str
    time_ns: int
    body: str
    attributes: Mapping[str, str | int]


def dropped(loss: Loss) -> Noticed:
    """Points and events that were lost: how many, when the first and the last were read (ns, UTC), and why."""
    about: dict[str, str | int] = {
        DROPPED_POINTS: loss.points,
        DROPPED_FROM_NS: loss.from_ns,
        DROPPED_TO_NS: loss.to_ns,
        DROPPED_REASON: loss.reason,
    }
    return Noticed(DROPPED, loss.to_ns, f"{loss.points} points that the agent read were dropped: {loss.reason}", about)


def engine_away(from_ns: int, to_ns: int) -> Noticed:
    """The container engine did not answer in between: what it does not remember of that time, nobody knows."""
    body = f"the container engine did not answer for {(to_ns - from_ns) / 1e9:.1f} s"
    return Noticed(ENGINE_AWAY, to_ns, body, {SEEN_FROM_NS: from_ns, SEEN_TO_NS: to_ns})
