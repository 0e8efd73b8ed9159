"""Which times and figures can be: one absurd item must cost itself, and not the answers about everybody else.

A span of a hundred years makes every question about it read a hundred years of readings; a counter that rises by 1e28
does not fit into the integers that ledgers are worked out in. So such items are refused where they come in, each for
itself, over HTTP, gRPC and in files alike (docs/SERVER.md, "What it takes").
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from layerline.attributes import CONTAINER_CPU_PERIOD_NS
from layerline_correlator.times import rfc3339

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
#: The last moment that 64 bits hold: in the year 2262.
LAST_NS = 2**63 - 1
#: How far a sender's clock may be ahead of this machine's.
AHEAD_NS = HOUR_NS
#: No span, and no interval of a difference (delta), is longer than this.
LONGEST_NS = 24 * HOUR_NS
#: How far the end of a span may lie before its start: clocks are corrected by less, unless they are set anew.
CORRECTED_NS = SECOND_NS
#: No figure of a span is larger: 11 days of CPU time, in nanoseconds.
FIGURE_LIMIT = 10**15
#: No count on a span is larger (switches, faults, periods), and no period of a CPU limit longer: the kernel's is 1 s at
#: most. Their product fits into 64 bits.
COUNT_LIMIT, PERIOD_LIMIT = 10**9, 2 * 10**9
#: No value of a signal that the catalogue knows is larger: 146 years of CPU time in nanoseconds, 4 EiB.
SIGNAL_LIMIT = 2.0**62
#: No value of any other metric is larger, so that sums stay finite.
VALUE_LIMIT = 1e30


@dataclass(frozen=True, slots=True)
class Bounds:
    """When what one request (or one file) tells of may have happened, in nanoseconds since 1970."""

    earliest_ns: int = 1
    latest_ns: int = LAST_NS

    @classmethod
    def at(cls, now_ns: int, retain_ns: int | None = None) -> Bounds:
        """Those of this moment. Without ``retain_ns``, what happened long ago is taken too (recorded data)."""
        return cls(1 if retain_ns is None else max(1, now_ns - retain_ns), now_ns + AHEAD_NS)

    @classmethod
    def now(cls) -> Bounds:
        """Whatever its age, but nothing that is yet to happen."""
        return cls.at(time.time_ns())

    def wrong_time(self, time_ns: int) -> str | None:
        """Why nothing can have happened then; None when it can."""
        if self.earliest_ns <= time_ns <= self.latest_ns:
            return None
        if time_ns <= 0:
            return "it has no time"
        if time_ns > LAST_NS:
            return "its time is after the year 2262"
        if time_ns < self.earliest_ns:
            return "it is older than what is kept (LAYERLINE_RETAIN)"
        return "it is more than an hour ahead of this server's clock"

    def wrong_span(self, start_ns: int, end_ns: int) -> str | None:
        """Why no span can have lasted from ``start_ns`` to ``end_ns``; None when it can."""
        if (
            self.earliest_ns <= start_ns <= end_ns + CORRECTED_NS
            and 0 < end_ns <= self.latest_ns
            and end_ns - start_ns <= LONGEST_NS
            and start_ns <= self.latest_ns
        ):
            return None
        if start_ns <= 0 or end_ns <= 0:
            return "it has no start time" if start_ns <= 0 else "it has no end time"
        if max(start_ns, end_ns) > LAST_NS:
            return "its times are after the year 2262"
        if start_ns > end_ns + CORRECTED_NS:
            return "it ends before it starts"
        if end_ns - start_ns > LONGEST_NS:
            return "it is longer than a day"
        return self.wrong_time(end_ns) or self.wrong_time(start_ns)


def figure_limit(name: str) -> int:
    """The largest value that a figure of a span can have."""
    if name == CONTAINER_CPU_PERIOD_NS:
        return PERIOD_LIMIT
    return FIGURE_LIMIT if name.endswith("_ns") else COUNT_LIMIT


def shown(time_ns: int) -> str:
    """A time as people read it, where it is one."""
    return rfc3339(time_ns) if 0 < time_ns <= LAST_NS else str(time_ns)
