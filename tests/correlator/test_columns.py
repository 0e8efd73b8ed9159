"""Spans as columns, and the memory of what was written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from layerline.attributes import SPAN_FIGURES
from layerline_correlator.settings import Settings
from layerline_correlator.store.columns import SpanColumns
from layerline_correlator.store.model import (
    NO_DETAILS,
    Batch,
    LeftOut,
    ResourceRow,
    SpanDetails,
    SpanEvent,
    SpanLink,
    SpanRow,
    resource_key,
)
from layerline_correlator.store.recent import LastPoints, Recent
from layerline_correlator.store.store import Store
from tests.profiles import examples
from tests.waiting import eventually

SECOND_NS = 10**9
SENDER = {"service.name": "web"}


def some(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


NUMBERS = st.integers(0, 2**62)
ATTRIBUTES = st.dictionaries(st.sampled_from(["a", "b", "http.route"]), st.text(max_size=3), max_size=3)
DETAILS = st.just(NO_DETAILS) | st.builds(
    SpanDetails,
    some(st.text(max_size=3)),
    st.none(),
    some(st.lists(st.builds(SpanEvent, NUMBERS, st.just("exception"), ATTRIBUTES), max_size=2)),
    some(st.lists(st.builds(SpanLink, st.just("f" * 32), st.just("e" * 16), ATTRIBUTES), max_size=2)),
    some(st.builds(LeftOut, *(st.integers(0, 9) for _ in LeftOut._fields))),
)
ROWS = st.lists(
    st.builds(
        SpanRow,
        trace_id=st.sampled_from(["0" * 31 + "1", "0" * 31 + "2"]),
        span_id=st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}"),
        parent_span_id=some(st.just("a" * 16)),
        resource=st.just(resource_key(SENDER)),
        name=st.sampled_from(["GET /", "reckon"]),
        kind=st.integers(0, 5),
        start_ns=st.integers(1, 2**40),
        end_ns=st.integers(2**40, 2**41),
        status=st.integers(0, 2),
        thread_id=some(NUMBERS),
        account=some(st.just("thread")),
        account_reason=some(st.just("greenlet")),
        slices=some(st.lists(NUMBERS, min_size=4, max_size=4)),
        figures=st.tuples(*(some(NUMBERS) for _ in SPAN_FIGURES)) | st.just((None,) * len(SPAN_FIGURES)),
        attributes=ATTRIBUTES,
        details=DETAILS,
    ),
    max_size=6,
    unique_by=lambda row: row.span_id,
)


@given(ROWS, ROWS)
@settings(max_examples=examples(30, 1000))
def test_columns_are_the_rows_they_were_made_of(rows: list[SpanRow], more: list[SpanRow]) -> None:
    """Whatever the spans have, columns give back the same rows, also when they were put together from two."""
    columns = SpanColumns(rows)
    columns.extend(SpanColumns(more))
    columns.extend(rows)

    assert list(columns) == [*rows, *more, *rows]
    assert columns[1:] == [*rows, *more, *rows][1:]
    assert columns.table().num_rows == len(columns)


@given(rows=ROWS)
@settings(max_examples=examples(3, 50), deadline=None)
def test_the_store_keeps_columns_as_it_keeps_rows(rows: list[SpanRow], tmp_path_factory: object) -> None:
    """What is written of spans is the same whether they came as rows or as columns."""
    written = []
    for spans in (rows, SpanColumns(rows)):
        folder = Path(tmp_path_factory.mktemp("store"))  # type: ignore[attr-defined]
        store = Store(replace(Settings(store=folder), group_ns=0))
        try:
            store.append(Batch(resources=[ResourceRow(resource_key(SENDER), SENDER)], spans=spans))
            with store.cursor() as cursor:
                written.append(cursor.execute("FROM hot_span ORDER BY span_id").fetchall())
        finally:
            store.close()
    assert written[0] == written[1]
    assert len(written[0]) == len(rows)


def test_what_was_written_is_remembered() -> None:
    """A span that was written may be in the store, one of another id or of another time is not."""
    recent = Recent(100 * SECOND_NS, [(130 * SECOND_NS, "a")])
    recent.add(["b", "c"], [140 * SECOND_NS, 165 * SECOND_NS])

    for span_id, at in (("a", 130), ("b", 140), ("c", 165)):
        assert recent.may_hold([span_id, "z"], (at - 10) * SECOND_NS, (at + 10) * SECOND_NS)
    assert not recent.may_hold(["z"], 100 * SECOND_NS, 200 * SECOND_NS)
    assert not recent.may_hold(["c"], 120 * SECOND_NS, 130 * SECOND_NS)


def test_what_is_older_than_the_memory_may_have_been_written() -> None:
    """Of the time before it began to remember, and of what it had to forget, it does not say that nothing is there."""
    recent = Recent(100 * SECOND_NS)
    assert recent.may_hold(["z"], 99 * SECOND_NS, 200 * SECOND_NS)

    many = [str(number) for number in range(150_000)]
    recent.add(many, [110 * SECOND_NS] * len(many))
    recent.add([f"{number} later" for number in many], [190 * SECOND_NS] * len(many))

    assert recent.may_hold(["z"], 110 * SECOND_NS, 120 * SECOND_NS)
    assert not recent.may_hold(["z"], 130 * SECOND_NS, 200 * SECOND_NS)
    assert recent.may_hold(["0 later"], 180 * SECOND_NS, 200 * SECOND_NS)


def test_points_that_are_later_than_the_last_were_not_written() -> None:
    """A point is new where it is later than all that the store had and than all that came of its series since."""
    last = LastPoints(100)
    last.add([("a", 120), ("a", 110), ("b", 90)])

    assert last.may_hold([("a", 120)])
    assert last.may_hold([("a", 115)])
    assert last.may_hold([("b", 100)])
    assert last.may_hold([("c", 100), ("a", 130)])
    assert not last.may_hold([("a", 121), ("b", 101), ("c", 101)])


def spans(first: int, count: int) -> Batch:
    rows = SpanColumns()
    for number in range(first, first + count):
        rows.append(
            SpanRow(
                f"{number + 1:032x}", f"{number + 1:016x}", None, resource_key(SENDER), "GET /", 2, 1, 2, 0,
                None, None, None, None, (None,) * len(SPAN_FIGURES), {},
            )
        )  # fmt: skip
    return Batch(resources=[ResourceRow(resource_key(SENDER), SENDER)], spans=rows)


def test_nobody_waits_for_company_that_is_not_needed(tmp_path: Path) -> None:
    """After a pause, and when much has come, it is written at once; a little more waits, and is written with it."""
    store = Store(replace(Settings(store=tmp_path), group_ns=3600 * SECOND_NS))
    try:
        store.append(spans(0, 1), patience_s=60)
        with ThreadPoolExecutor(1) as other:
            little = other.submit(store.append, spans(1, 1), 60)
            store.append(spans(2, 600), patience_s=60)
            eventually(lambda: store.waiting()[0] == 0, "nothing waits")
            store.append(spans(602, 600), patience_s=60)
            little.result()
        with store.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM span").fetchall() == [(1202,)]
    finally:
        store.close()
