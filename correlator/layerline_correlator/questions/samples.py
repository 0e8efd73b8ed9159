"""Samples for those who calculate with them: what requests did and what was read, by bins of time.

A counter is a list of stretches with how much it grew in each, a level one with what it was: nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb

from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, narrow
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import run
from layerline_correlator.summaries.cover import LONG_NS, POINTS, QUARTER_NS, cover

_S, _H = 10**9, 3600 * 10**9
#: The bins that are chosen from, and how many of them a window has at most.
BINS_NS = (_S, 5 * _S, 15 * _S, MINUTE_NS, 5 * MINUTE_NS, QUARTER_NS, _H, 6 * _H, 24 * _H)
MOST_BINS = 1_500
#: Readings that reach into the window began at most so long before it.
_AROUND_NS = 130 * _S
#: Where time is lost in the window, the request began at most so long before it.
_REQUESTS_BEFORE_NS = _H

#: What `stretches.sql` is handed.
READINGS = (("summaries/stretches.sql",), ("wanted_series", *POINTS))


@dataclass(frozen=True, slots=True)
class Samples:
    """One series: stretches of time in their order, and for each how much it grew, or what it was (``is_level``)."""

    name: str
    """A signal; or ``requests``, ``errors``, ``slow``, ``seconds``, ``lost`` or ``bound N``."""
    labels: tuple[tuple[str, str], ...]
    is_level: bool = False
    from_ns: Sequence[int] = ()
    to_ns: Sequence[int] = ()
    amounts: Sequence[float] = ()


def bin_of(from_ns: int, to_ns: int) -> int:
    """How fine a window is read: the finest bin that gives at most ``MOST_BINS``; minutes where those are summed up."""
    least_ns = MINUTE_NS if to_ns - from_ns > LONG_NS else 0
    fits = (one for one in BINS_NS if one >= least_ns and (to_ns - from_ns) // one <= MOST_BINS)
    return next(fits, (to_ns - from_ns) // MOST_BINS // BINS_NS[-1] * BINS_NS[-1] + BINS_NS[-1])


def read_request_samples(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, bin_ns: int) -> list[Samples]:
    """``requests``, ``errors``, ``slow`` and the ``seconds`` that they took, by service and operation."""
    _cover(cursor, from_ns, to_ns, bin_ns)
    (rows,) = run(cursor, "questions/samples_requests.sql", {"bin_ns": bin_ns})
    return [
        _binned(name, _labels(service=service, operation=operation), bins, amounts, to_ns, bin_ns)
        for service, operation, bins, *lists in rows
        for name, amounts in zip(("requests", "errors", "slow", "seconds"), lists, strict=True)
    ]


def read_latency_samples(
    cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, bin_ns: int, bounds_ns: Sequence[int]
) -> list[Samples]:
    """``bound N``: how many requests took at most the bound of that number, and more than the one before."""
    _cover(cursor, from_ns, to_ns, bin_ns)
    (rows,) = run(cursor, "questions/samples_latency.sql", {"bin_ns": bin_ns, "bounds_ns": list(bounds_ns)})
    return [
        _binned(f"bound {number}", _labels(service=service, operation=operation), bins, amounts, to_ns, bin_ns)
        for service, operation, number, bins, amounts in rows
    ]


def read_lost_samples(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, bin_ns: int) -> list[Samples]:
    """``lost``: seconds by service, operation, cause, its layer, and whom it blames."""
    _cover(cursor, max(0, from_ns - (_REQUESTS_BEFORE_NS if bin_ns >= MINUTE_NS else 0)), to_ns, bin_ns)
    (rows,) = run(cursor, "questions/samples_lost.sql", {"bin_ns": bin_ns})
    return [
        _binned(
            "lost",
            _labels(
                service=service,
                operation=operation,
                cause=cause,
                layer="unexplained" if cause == "unexplained" else cause.partition(".")[0],
                entity_type=entity_type,
                entity=entity,
            ),
            bins,
            amounts,
            to_ns,
            bin_ns,
        )
        for service, operation, cause, entity_type, entity, bins, amounts in rows
    ]


def read_signals(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    """The signals of which anything is stored."""
    return [name for (name,) in cursor.execute("SELECT DISTINCT signal FROM series ORDER BY signal").fetchall()]


def read_series(cursor: duckdb.DuckDBPyConnection, signals: Collection[str]) -> list[Samples]:
    """What is read of these signals and of whom, without a value."""
    return [one for _, one in _series(cursor, signals)]


def read_reading_samples(
    cursor: duckdb.DuckDBPyConnection, signals: Collection[str], from_ns: int, to_ns: int, bin_ns: int
) -> list[Samples]:
    """What was read of these signals: of several senders of one the one that is heard."""
    since_ns, until_ns = max(0, from_ns - _AROUND_NS), to_ns + 1
    narrow(cursor, since_ns, until_ns, POINT)
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_series AS SELECT series FROM series"
        " WHERE signal IN (SELECT unnest($signals::VARCHAR[]))",
        {"signals": list(signals)},
    ).fetchall()
    summed = bin_ns >= MINUTE_NS
    cover(cursor, "point", since_ns, until_ns, summed=summed, quarters=bin_ns >= QUARTER_NS)
    graph(*READINGS).run(cursor, {})
    of = dict(_series(cursor, signals))
    (rows,) = run(cursor, "questions/samples_readings.sql", {"bin_ns": bin_ns})
    return [
        replace(of[line], is_level=is_level, from_ns=begins, to_ns=ends, amounts=amounts)
        for line, is_level, begins, ends, amounts in rows
        if line in of
    ]


def read_matching(cursor: duckdb.DuckDBPyConnection, pattern: str, texts: Sequence[str]) -> set[str]:
    """Those texts that a regular expression matches whole. RE2 takes time in proportion to the text, whatever it is."""
    rows = cursor.execute(
        "SELECT text FROM (SELECT unnest($texts::VARCHAR[]) AS text) WHERE regexp_full_match(text, $pattern, 's')",
        {"texts": list(texts), "pattern": pattern},
    ).fetchall()
    return {text for (text,) in rows}


def _cover(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, bin_ns: int) -> None:
    cover(cursor, "request", from_ns, to_ns, summed=bin_ns >= MINUTE_NS, quarters=bin_ns >= QUARTER_NS)


def _series(cursor: duckdb.DuckDBPyConnection, signals: Collection[str]) -> Iterator[tuple[str, Samples]]:
    (rows,) = run(cursor, "questions/samples_series.sql", {"signals": list(signals)})
    for line, signal, kind, identity, container, image, host, attributes in rows:
        of_container = {"container": container or identity[:12], "container_id": identity, "image": image, "host": host}
        of_others = {"host": host or identity} if kind == "host" else {kind: identity}
        whose = of_container if kind == "container" else of_others
        yield line, Samples(signal, _labels(**{**(attributes or {}), **whose}))


def _labels(**given: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in given.items() if text))


def _binned(
    name: str,
    labels: tuple[tuple[str, str], ...],
    bins: Sequence[int],
    amounts: Sequence[float],
    to_ns: int,
    bin_ns: int,
) -> Samples:
    return Samples(
        name,
        labels,
        False,
        [bin_no * bin_ns for bin_no in bins],
        [max(bin_no * bin_ns + 1, min((bin_no + 1) * bin_ns, to_ns)) for bin_no in bins],
        amounts,
    )
