"""A pass waits until it is worth its while, and nobody who would notice waits for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layerline_correlator.ledger.rest import FEW, TOGETHER_NS, due_ns, until_s

AT_NS = 1_800_000_000 * 10**9 + 7


def test_what_is_slow_or_failed_waits_for_its_readings_only() -> None:
    """However little arrives, an urgent ledger is due when its readings are there."""
    assert due_ns(AT_NS, 1, is_urgent=True) == AT_NS


def test_ordinary_ledgers_share_a_pass_where_few_wait() -> None:
    """An ordinary ledger waits for a pass that is made anyway, for three minutes at most; not where many wait."""
    assert due_ns(AT_NS, FEW, is_urgent=False) == AT_NS + TOGETHER_NS
    assert due_ns(AT_NS, FEW + 1, is_urgent=False) == AT_NS


def test_what_only_arrives_waits_longest() -> None:
    """Rows are made once in ten seconds where no ledger is due, also after a pass that was short."""
    assert until_s(100.0, 0.01, 10.0, None) == 110.0
    assert until_s(100.0, 0.01, 10.0, 500.0) == 110.0


def test_a_due_ledger_waits_for_no_row() -> None:
    """A ledger that is due soon is worked out then, or after thirty times as long as the pass before it took."""
    assert until_s(100.0, 0.1, 10.0, 104.0) == 104.0
    assert until_s(100.0, 0.1, 10.0, 101.0) == 103.0
    assert until_s(100.0, 0.001, 10.0, 99.0) == 100.5


@given(st.floats(0, 100), st.floats(0, 60), st.none() | st.floats(0, 1000))
def test_a_rest_has_an_end(worked_s: float, longest_s: float, due_s: float | None) -> None:
    """No rest is longer than what the settings allow."""
    assert 100.0 <= until_s(100.0, worked_s, longest_s, due_s) <= 100.0 + longest_s
