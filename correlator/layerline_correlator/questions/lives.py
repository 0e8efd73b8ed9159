"""Who lived in a window, for how long, and what it used: also those that lived for a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from layerline.tags import TAG_WORDS
from layerline_correlator.store.sealed import POINT, SPAN, narrow
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import text
from layerline_correlator.summaries.cover import DAY_PART_NS, cover, turns
from layerline_correlator.tagquery.condition import glob
from layerline_correlator.times import rfc3339

#: What a container used in its life, and the unit. ``totals`` has exactly these.
TOTALS = {"cpu.time": "ns", "cpu.throttled": "ns", "disk.io.read": "By", "disk.io.write": "By"}


@dataclass(frozen=True, slots=True)
class Total:
    """What was used in a life, in the unit of its signal. Not measured is not zero."""

    low: int | None
    """At least: what was read last, and what the wrapper told; None where nothing is known."""
    high: int | None
    """At most: what can have been used between the last reading and the end besides; None where there is no bound."""
    value: int | None
    """The figure itself, where both are the same."""
    evidence: str
    """``measured``, ``range`` or ``not measured``."""

    @classmethod
    def of(cls, low: int | None, high: int | None) -> Total:
        """The total between these bounds."""
        if low is None:
            return cls(None, None, None, "not measured")
        if low == high:
            return cls(low, high, low, "measured")
        return cls(low, high, None, "range")


@dataclass(frozen=True, slots=True)
class Life:
    """One container that lived in the window, all its runs together. Times are RFC 3339."""

    type: str
    id: str
    name: str
    """The short id where no name is known."""
    image: str | None
    host: str | None
    tags: dict[str, str]
    """Its attributes and labels (``container.label.…``), with those of its host."""
    started: str | None
    """Its last start, exactly, from its event; None where nobody saw that."""
    ended: str | None
    """When that run ended, exactly; None where it goes on, or nobody saw it end."""
    first_seen: str
    last_seen: str
    exit_code: int | None
    runs: int
    """How often it was started, as far as was seen."""
    totals: dict[str, Total]
    """What it used in all runs until it ended, or was read last. By the names of ``TOTALS``."""


def read_lives(
    cursor: duckdb.DuckDBPyConnection,
    from_ns: int,
    to_ns: int,
    type: str = "container",
    tags: Sequence[tuple[str, str]] = (),
) -> list[Life]:
    """The containers that lived in the window and carry the tags (as in ``tag=key:value``), first seen first.

    ValueError for another type than ``container``.
    """
    if type != "container":
        raise ValueError(f"expected the type container, found {type!r}")
    narrow(cursor, from_ns - MINUTE_NS, to_ns, POINT, SPAN)
    apart = turns(cursor, from_ns - MINUTE_NS, to_ns)
    for kind in ("point", "span"):
        cover(
            cursor,
            kind,
            max(0, from_ns - MINUTE_NS),
            to_ns,
            apart=apart,
            quarters=to_ns - from_ns > DAY_PART_NS,
        )
    rows = cursor.execute(
        text("questions/lives.sql"),
        {
            "from_ns": from_ns,
            "to_ns": to_ns,
            "keys": [TAG_WORDS.get(key, key) for key, _ in tags],
            "values": [glob(value) for _, value in tags],
        },
    ).fetchall()
    lives: dict[str, Life] = {}
    for identity, *who, total, low, high in rows:
        if identity not in lives:
            name, image, host, carried, started_ns, ended_ns, exit_code, first_ns, last_ns, runs = who
            lives[identity] = Life(
                type="container",
                id=identity,
                name=name or identity[:12],
                image=image,
                host=host,
                tags=carried,
                started=None if started_ns is None else rfc3339(started_ns),
                ended=None if ended_ns is None else rfc3339(ended_ns),
                first_seen=rfc3339(first_ns),
                last_seen=rfc3339(last_ns),
                exit_code=exit_code,
                runs=runs,
                totals={},
            )
        lives[identity].totals[total] = Total.of(low, high)
    return list(lives.values())
