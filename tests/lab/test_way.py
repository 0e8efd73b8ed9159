"""Ways of running: how they are written, chosen and drawn."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from benchmarks.lab.way import SYNCHRONOUS, THREADS, Way, balanced, matches, parse, ways


def test_a_way_is_read_as_it_is_written() -> None:
    """Every way comes back from its text; another text is refused with an example."""
    for way in (*ways(THREADS), *ways(THREADS, limit=True)):
        assert parse(str(way)) == way
    assert str(Way("gthread", 16, "one", 20, "parent")) == "gthread-16+one+20ms+parent"
    with pytest.raises(ValueError, match=r"no way of running is written 'gthread', expected one as sync-1\+all"):
        parse("gthread")


def test_a_pattern_names_some_parts() -> None:
    """A pattern matches a way that has all its parts, in any order."""
    way = Way("gthread", 16, "one", 20, "parent")
    assert all(matches(way, pattern) for pattern in ("gthread-16", "parent+one", "gthread-*+20ms", "*"))
    assert not any(matches(way, pattern) for pattern in ("gthread", "all", "one+50ms", "gthread-4+parent"))


def test_parts_are_drawn_by_their_weight() -> None:
    """Three ways in four have no cpuset, two limits in three are the container's own, periods and servers are even."""
    drawn = list(islice(balanced(ways(SYNCHRONOUS, limit=True), random.Random(1)), 84))  # noqa: S311 - repeatable
    counts = Counter(part for way in drawn for part in way.parts)
    assert (counts["all"], counts["one"]) == (63, 21)
    assert (counts["own"], counts["parent"]) == (56, 28)
    assert (counts["20ms"], counts["50ms"], counts["100ms"]) == (28, 28, 28)
    assert {counts[f"{server}-{n}"] for server in SYNCHRONOUS for n in THREADS[server]} == {12}


def test_nothing_is_drawn_from_no_ways() -> None:
    """A fault without a way of running is an error of the catalogue, not an endless search."""
    with pytest.raises(ValueError, match="from none"):
        next(balanced((), random.Random(1)))  # noqa: S311
