"""Moments and lengths of time, from the API's JSON to words and to numbers."""

from __future__ import annotations

from datetime import UTC, datetime

from layerline_api.words.amounts import human
from layerline_api.words.clean import clean


def when(time: str) -> str:
    """``2026-11-23 10:00:00``; tenths where there are any."""
    moment, _, fraction = clean(time).removesuffix("Z").partition(".")
    return moment.replace("T", " ") + (f".{fraction[:1]}" if fraction.strip("0") else "")


def length(step_ns: int) -> str:
    """``100 ms``, ``5 s``, ``15 min``, ``3 h``: steps are round."""
    for unit, size_ns in (("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9)):
        if step_ns % size_ns == 0:
            return f"{step_ns // size_ns} {unit}"
    return human(step_ns)


def ns_of(time: str) -> int:
    """RFC 3339 as the API writes it, in UTC with nine digits, in nanoseconds."""
    whole_seconds, _, fraction = time.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole_seconds).replace(tzinfo=UTC)
    return round(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def apart(offset_ns: int) -> str:
    """``1.2 s``, ``3 min 20 s``: nobody wants to know the milliseconds."""
    return f"{abs(offset_ns) / 1e9:.1f} s" if abs(offset_ns) < 119.95e9 else human(offset_ns)
