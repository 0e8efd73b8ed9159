"""What becomes durable together: a transaction costs as much as many rows do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from spans import a_while_ago, batch, series_rows, span_row

from layerline_correlator.settings import Settings
from layerline_correlator.store import store as store_module
from layerline_correlator.store.model import Batch
from layerline_correlator.store.store import Store
from waiting import PATIENCE_S, eventually

ZERO_NS = a_while_ago(60)


def readings(at: int) -> Batch:
    drawn = {"signal": "container.cpu.time", "container": "web-1", "at": [at], "values": [at]}
    return batch([], [series_rows(drawn, ZERO_NS)])


def span(number: int) -> Batch:
    return batch([span_row({"id": "a", "kind": "server", "ms": [0, 1]}, f"{number:032x}", ZERO_NS)])


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches with which transactions began to be gathered."""
    firsts: list[Batch] = []
    gather = Store._gather

    def noted(store: Store, first: Any) -> Any:
        firsts.append(first.batch)
        return gather(store, first)

    monkeypatch.setattr(Store, "_gather", noted)
    return firsts


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches each transaction had."""
    groups: list[int] = []
    insert = Store._insert

    def counted(store: Store, cursor: Any, batches: list[Batch]) -> Any:
        groups.append(len(batches))
        return insert(store, cursor, batches)

    monkeypatch.setattr(Store, "_insert", counted)
    return groups


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Store]]:
    """A store in which a few readings wait for hours, if nothing else comes."""
    monkeypatch.setattr(store_module, "_POINTS_WAIT", 10**9)
    stores: list[Store] = []

    def open_one() -> Store:
        stores.append(Store(Settings(store=tmp_path / "store", group_ns=10**6)))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_a_few_readings_wait_for_spans(
    opened: Callable[[], Store], transactions: list[int], taken: list[Batch]
) -> None:
    """After a transaction, readings alone wait until something else is written, and are written with it."""
    store = opened()
    store.append(readings(0))
    assert transactions == [1], "the first waits for nothing"
    with ThreadPoolExecutor(1) as sender:
        waits = sender.submit(store.append, readings(1000), PATIENCE_S)
        eventually(lambda: len(taken) == 2, "the readings at the writer")
        store.append(span(1))
        waits.result()
    assert transactions == [1, 2]
    with store.cursor() as cursor:
        assert cursor.execute("SELECT (SELECT count(*) FROM point), (SELECT count(*) FROM span)").fetchall() == [(2, 1)]


def test_readings_that_wait_are_written_at_the_end(
    opened: Callable[[], Store], transactions: list[int], taken: list[Batch]
) -> None:
    """A store that closes waits for nothing more, and what it had taken is written."""
    store = opened()
    store.append(readings(0))
    with ThreadPoolExecutor(1) as sender:
        waits = sender.submit(store.append, readings(1000), PATIENCE_S)
        eventually(lambda: len(taken) == 2, "the readings at the writer")
        store.close()
        waits.result()
    assert transactions == [1, 1]
