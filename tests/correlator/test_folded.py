"""Folding a trace into rows: few rows, nothing lost, what took long first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerline_correlator.questions.folded import Spanned, fold
from profiles import examples


def spanned(number: int, parent: int | None, name: str = "", at: int = 0, end: int = 10, path: int = 0) -> Spanned:
    return Spanned(number, parent, ("web", name or f"op {number}", "client"), at, end, path)


def test_children_of_one_kind_are_two_rows() -> None:
    """Of ten equal calls the longest is a row, with what is below it; the other nine are one row that counts them."""
    calls = [spanned(number, 0, "GET", number, number + 2 + (number == 7), 2) for number in range(1, 11)]
    answers = [spanned(20 + number, number, "answer", number, number + 1, 1) for number in range(1, 11)]
    rows = fold([spanned(0, None, end=20), *calls, *answers], 0)
    assert [(row.number, row.depth, row.alike, row.below) for row in rows] == [
        (0, 0, 1, 0), (1, 1, 9, 9), (7, 1, 1, 0), (27, 2, 1, 0)
    ]  # fmt: skip
    assert rows[1].total_ns == 18
    assert len(rows[1].members) == 18


def test_what_took_long_is_opened_first() -> None:
    """With room for four rows, the three longest calls have rows, and the caller counts the rest."""
    calls = [spanned(number, 0, at=number, path=number) for number in range(1, 6)]
    below = [spanned(10 + number, number, path=1) for number in range(1, 6)]
    rows = fold([spanned(0, None), *calls, *below], 0, most=4)
    assert [row.number for row in rows] == [0, 3, 4, 5]
    assert rows[0].below == 4
    assert [row.below for row in rows[1:]] == [1, 1, 1]


def test_who_unfolds_a_span_sees_its_children() -> None:
    """The children of the span that was asked for are not folded, and nothing beside it is shown."""
    spans = [spanned(0, None), spanned(1, 0), *(spanned(number, 1, "GET") for number in range(2, 12)), spanned(12, 0)]
    rows = fold(spans, 1, open_top=True)
    assert [row.number for row in rows] == [1, *range(2, 12)]
    assert {row.alike for row in rows} == {1}


def test_a_span_that_is_not_there() -> None:
    """An unknown span is a KeyError."""
    with pytest.raises(KeyError):
        fold([spanned(0, None)], 1)


@settings(max_examples=examples(50, 1_000))
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.integers(0, 5)), max_size=60),
    st.integers(1, 20),
    st.integers(2, 8),
)
def test_nothing_is_lost(drawn: list[tuple[int, str, int]], most: int, alike: int) -> None:
    """Whatever the tree: at most so many rows, and each span is in exactly one of them."""
    spans = [spanned(0, None, "a")]
    spans += [
        spanned(number, parent % number, name, number, number + 1, path)
        for number, (parent, name, path) in enumerate(drawn, 1)
    ]
    rows = fold(spans, 0, most=most, alike=alike)
    assert len(rows) <= most
    assert sorted(number for row in rows for number in row.members) == [span.number for span in spans]
    assert sum(row.below + row.alike for row in rows) == len(spans)
