"""Rows of series and senders go when nothing refers to them any more, and never while anything does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spans import a_while_ago, batch, container_id, event_row, resource, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store import keeping, unused
from layerline_correlator.store.model import Batch, LogRow
from layerline_correlator.store.sealed import HOUR_NS
from layerline_correlator.store.unused import delete_unused

#: What is of this hour is deleted by the tests, and what is of the next one is kept. Both may be sealed.
OLD_NS = (a_while_ago(5 * 3600) // HOUR_NS) * HOUR_NS
NEXT_NS = OLD_NS + HOUR_NS
#: Containers, named after what the store keeps of them.
KINDS = ("point", "span", "event", "log", "gone")


def readings(container: str, zero_ns: int) -> Batch:
    drawn = {"signal": "container.cpu.time", "container": container, "at": [0, 1_000], "values": [1, 2]}
    return batch([], [series_rows(drawn, zero_ns)])


def requests(container: str, zero_ns: int) -> Batch:
    span = {"id": "a", "kind": "server", "ms": [0, 40], "service": "web", "container": container}
    return batch([span_row(span, f"{7:032x}", zero_ns)])


def event(container: str, zero_ns: int) -> Batch:
    return batch([], [], [event_row({"name": "container.start", "container": container, "at": 0}, zero_ns)])


def log(container: str, zero_ns: int) -> Batch:
    who = resource("worker", container)
    return Batch(resources=[who], logs=[LogRow(who.resource, zero_ns, None, None, 9, "INFO", "hello", {})])


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    opened.keeping.stop()  # it does what the tests say
    yield opened
    opened.close()


def never_rests() -> bool:
    return True


def clean(correlator: Correlator, rest: Callable[[], bool] = never_rests) -> int:
    """Delete what is unused, as if everything had been received long ago."""
    with correlator._store.cursor() as cursor:
        cursor.execute("UPDATE resource SET seen_ns = 1").fetchall()
        return delete_unused(correlator._store, cursor, NEXT_NS, rest)


def names(correlator: Correlator) -> set[str]:
    """The containers of which the store has a sender."""
    with correlator._store.cursor() as cursor:
        found = {one for (one,) in cursor.execute("SELECT container_id FROM resource").fetchall()}
    return {name for name in KINDS if container_id(name) in found}


def count(correlator: Correlator, query: str) -> int:
    with correlator._store.cursor() as cursor:
        ((found,),) = cursor.execute(f"SELECT count(*) FROM {query}").fetchall()
        return int(found)


def whole(correlator: Correlator) -> bool:
    """Everything that is kept has its series and its sender."""
    places = {"point": "series", "series": "resource", "span": "resource", "event": "resource", "log": "resource"}
    return not any(count(correlator, f"{place} ANTI JOIN {key} USING ({key})") for place, key in places.items())


@pytest.mark.parametrize("sealed", [False, True], ids=["hot", "sealed"])
def test_what_anything_refers_to_stays(correlator: Correlator, sealed: bool) -> None:
    """Of five containers that were read, four have something younger: those keep their rows, the fifth has none."""
    for name in KINDS:
        correlator.append(readings(name, OLD_NS))
    correlator.append(readings("point", NEXT_NS))
    correlator.append(requests("span", NEXT_NS))
    correlator.append(event("event", NEXT_NS))
    correlator.append(log("log", NEXT_NS))
    correlator.look_for_incidents()
    correlator.summing.catch_up()
    if sealed:
        assert (
            correlator.keeping.seal_all(OLD_NS + 5 * HOUR_NS) == 4
        )  # two hours of points, one of spans, one of log records
    assert clean(correlator) == 0, "nothing is unused before anything was deleted"
    correlator._delete(NEXT_NS)
    assert clean(correlator) > 0
    assert names(correlator) == {*KINDS} - {"gone"}
    assert count(correlator, "series") == 1
    assert whole(correlator)
    assert clean(correlator) == 0


def test_a_fleet_of_short_lives_leaves_nothing(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there were, and in however many steps their rows are deleted; one that comes back is known again."""
    monkeypatch.setattr(unused, "AT_ONCE", 7)
    for number in range(20):
        correlator.append(readings(f"short-{number}", OLD_NS))
    assert (count(correlator, "series"), count(correlator, "resource")) == (20, 20)
    correlator.summing.catch_up()
    correlator._delete(NEXT_NS)
    assert clean(correlator) == 40
    assert (count(correlator, "series"), count(correlator, "resource")) == (0, 0)
    correlator.append(readings("short-3", NEXT_NS))
    assert (count(correlator, "series"), count(correlator, "resource")) == (1, 1)
    assert whole(correlator)


def test_what_arrives_meanwhile_counts_as_used(correlator: Correlator) -> None:
    """A sender that sends again during the search or the deletion keeps its rows, which the writer writes only once."""
    for name in KINDS:
        correlator.append(readings(name, OLD_NS))
    correlator.summing.catch_up()
    correlator._delete(NEXT_NS)
    again = iter([readings("point", NEXT_NS), requests("span", NEXT_NS), event("event", NEXT_NS), log("log", NEXT_NS)])

    def something_arrives() -> bool:
        if (more := next(again, None)) is not None:
            correlator.append(more)
        return True

    clean(correlator, something_arrives)
    assert whole(correlator)
    assert next(again, None) is None
    assert count(correlator, "series") == 1
    assert count(correlator, "point") == 2


def test_what_is_cut_off_is_done_the_next_time(
    tmp_path: Path, correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it ends, all that is kept is whole, and after the next start the rest is deleted."""
    monkeypatch.setattr(unused, "AT_ONCE", 2)
    for name in KINDS:
        correlator.append(readings(name, OLD_NS))
    correlator.append(readings("point", NEXT_NS))
    correlator.summing.catch_up()
    correlator._delete(NEXT_NS)
    steps = count(correlator, "duckdb_tables()")

    def ends() -> bool:
        return count(correlator, "series") == len(KINDS)

    assert clean(correlator, ends) == 2
    assert (count(correlator, "series"), count(correlator, "resource")) == (len(KINDS) - 2, len(KINDS))
    assert whole(correlator)
    assert count(correlator, "duckdb_tables()") == steps
    correlator.close()
    again = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    again.keeping.stop()
    assert clean(again) == 2 * len(KINDS) - 4
    assert names(again) == {"point"}
    again.close()


def test_retention_has_them_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were first received before retention's limit, and they count as deleted; younger ones stay."""
    monkeypatch.setattr(keeping, "_PAUSE_S", 0.0)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, retain_ns=HOUR_NS))
    for name in ("gone", "point"):
        correlator.append(readings(name, OLD_NS))
    correlator.keeping.delete_unused()  # nothing was deleted
    correlator.summing.catch_up()
    correlator._retain()
    correlator.keeping.delete_unused()
    assert names(correlator) == {"gone", "point"}
    with correlator._store.cursor() as cursor:
        cursor.execute(
            "UPDATE resource SET seen_ns = 1 WHERE container_id = $id", {"id": container_id("gone")}
        ).fetchall()
    correlator.append(readings("point", OLD_NS))
    before = correlator.health().deleted_rows
    correlator._retain()
    correlator.keeping.delete_unused()
    assert names(correlator) == {"point"}
    assert correlator.health().deleted_rows >= before + 2
    correlator.close()
