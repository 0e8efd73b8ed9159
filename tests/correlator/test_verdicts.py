"""Verdicts over a window add up enough requests of each operation, and not too many of all."""

from __future__ import annotations

import pytest

from layerline_correlator.questions.verdicts import _each


@pytest.mark.parametrize(
    ("operations", "each"), [(0, 500), (1, 500), (4, 250), (10, 100), (40, 50), (400, 50), (1_000, 20), (50_000, 1)]
)
def test_many_operations_share_the_requests_that_are_judged(operations: int, each: int) -> None:
    """1,000 requests are judged together, 500 of one operation at most; of many operations 50 each, up to 20,000."""
    assert _each(operations) == each
