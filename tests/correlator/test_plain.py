"""Answers as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from layerline_correlator.plain import LEFT_OUT, left_out, plain


@dataclass(frozen=True, slots=True)
class Answer:
    try_: str
    inner: list[Answer]
    known: int | None = None
    extra: int | None = field(default=None, metadata=LEFT_OUT)


def test_fields_are_the_json() -> None:
    """Names and nesting are kept; a trailing ``_`` is not part of a name."""
    inner = Answer("b", [], 0, 0)
    assert plain({"one": (Answer("a", [inner]),)}) == {
        "one": [{"try": "a", "inner": [{"try": "b", "inner": [], "known": 0, "extra": 0}], "known": None}]
    }


def test_only_marked_fields_are_left_out() -> None:
    """A field that is None is null, unless it is marked to be left out then."""
    assert left_out(Answer) == {"extra"}
    assert plain(Answer("a", [])) == {"try": "a", "inner": [], "known": None}
