"""What the store remembers of what it wrote: never a wrong no, and bounded whatever is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from layerline_correlator.settings import Settings
from layerline_correlator.store import recent
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SeriesRow
from layerline_correlator.store.recent import Known, LastPoints, Recent
from layerline_correlator.store.store import Store
from profiles import examples

SECOND = 10**9


@settings(max_examples=examples(100, 3000))
@given(some.lists(some.tuples(some.sampled_from("abcdefgh"), some.integers(1, 30)), max_size=60))
def test_a_point_that_was_written_may_always_be_held(points: list[tuple[str, int]]) -> None:
    """However many series are forgotten, no point that was written is taken for new; and few are remembered."""
    last, written = LastPoints(5, most=4), {("before", 3), ("a", 5)}
    for point in points:
        assert last.may_hold([point]) or point not in written
        last.add([point])
        written.add(point)
        assert len(last) <= 5
    assert all(last.may_hold([point]) for point in written)


@settings(max_examples=examples(100, 3000))
@given(some.lists(some.sampled_from("abcdefgh"), max_size=60))
def test_only_what_was_added_is_known(keys: list[str]) -> None:
    """A key that is known was added; one that was added and is not known has been forgotten, which is said."""
    known, added = Known(most=4), set()
    for key in keys:
        assert key not in known or key in added
        assert key in known or key not in added or known.has_forgotten
        known.add([key])
        added.add(key)
        assert key in known
        assert len(known) <= 5


def test_spans_that_all_began_at_once_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of one moment are forgotten too when they are too many; after that the store is asked about them."""
    monkeypatch.setattr(recent, "_OF_ONE", 1_000)
    known = Recent(0)
    for first in range(0, 10_000, 100):
        known.add([f"{first + number:016x}" for number in range(100)], [SECOND] * 100)
        assert len(known) <= 1_000
        assert known.may_hold([f"{first:016x}"], 0, 2 * SECOND)


def test_a_store_that_forgets_writes_nothing_twice(tmp_path: Path) -> None:
    """Of a series, a sender and a point that is sent again after it was forgotten there is one row."""
    store = Store(Settings(store=tmp_path / "store", group_ns=0, series=10))

    def send(number: int, at_ns: int = SECOND) -> None:
        who, series = f"r{number}", f"s{number}"
        store.append(
            Batch(
                resources=[ResourceRow(who, {})],  # nobody: beyond no cap
                series=[SeriesRow(series, who, "m", "1", "gauge", {})],
                points=[PointRow(series, 0, at_ns, number)],
            )
        )

    store._caps._series.most = 10_000
    for number in range(30):
        send(number)
    for number in range(30):
        send(number)
        send(number, 2 * SECOND)
    with store.cursor() as cursor:
        for table, column, rows in (("resource", "resource", 30), ("series", "series", 30), ("point", "series", 30)):
            found = cursor.execute(f"SELECT count(*), count(DISTINCT {column}) FROM {table}").fetchall()
            assert found == [(2 * rows if table == "point" else rows, rows)]
    assert len(store._known) <= 21
    store.close()
    again = Store(Settings(store=tmp_path / "store", group_ns=0, series=10))  # which reads only some at its start
    assert again._known.has_forgotten
    again.append(Batch(resources=[ResourceRow("r7", {})], points=[PointRow("s7", 0, SECOND, 7)]))
    with again.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM resource WHERE resource = 'r7'").fetchall() == [(1,)]
        assert cursor.execute("SELECT count(*) FROM point WHERE series = 's7'").fetchall() == [(2,)]
    again.close()
