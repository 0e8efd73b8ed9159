"""A word for what is stored: it changes with whatever is written, by whomever."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from spans import a_while_ago, batch, span_row

from layerline_correlator.ledger import work as ledger
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import Monitor
from layerline_correlator.settings import Settings
from layerline_correlator.store import generation
from layerline_correlator.store.generation import Generation
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Store
from layerline_correlator.summaries.summing import Summing


def test_whatever_is_written_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intake, ledgers, sums, monitors and retention: each has another word after it, and questions have the same."""
    monkeypatch.setattr(generation, "QUIET_NS", 0)
    store = Store(Settings(store=tmp_path / "store", group_ns=0))
    zero_ns, trace = a_while_ago(3600), "1" * 32
    spans = batch([span_row({"id": "a", "kind": "server", "ms": [0, 100], "cpu": 100}, trace, zero_ns)])
    with store.cursor() as cursor:
        monitor = Monitor("m1", "too fat", "drawn", "question", 30 * 10**9, 0, (), created_ns=1)
        monitors = Monitors(store.cursor(), {})
        summing = Summing(store.cursor(), store.disk, store.threads)
        writers: dict[str, Callable[[], object]] = {
            "intake": lambda: store.append(spans),
            "ledgers": lambda: ledger.work_out(cursor, [trace], zero_ns, zero_ns),
            "sums": summing.catch_up,
            "a monitor": lambda: monitors.save(monitor),
            "retention": lambda: run(cursor, "store/retain.sql", {"before_ns": zero_ns + 10**12}),
            "a checkpoint": lambda: cursor.execute("CHECKPOINT").fetchall(),
        }
        seen = {store.generation.word()}
        for who, write in writers.items():
            write()
            after = store.generation.word()
            assert after is not None
            assert after not in seen, who
            seen.add(after)
            cursor.execute("SELECT count(*) FROM span").fetchall()
            cursor.execute("CREATE OR REPLACE TEMP TABLE mine AS FROM span").fetchall()
            assert store.generation.word() == after
    store.close()


def test_what_was_written_just_now_has_no_word(tmp_path: Path) -> None:
    """A commit is in the log before others see it: for a minute after a write nothing is to be kept."""
    store = Store(Settings(store=tmp_path / "store", group_ns=0))
    assert store.generation.word() is None
    long_ago_ns = time.time_ns() - 61 * 10**9
    for file in (tmp_path / "store").glob("hot.duckdb*"):
        os.utime(file, ns=(long_ago_ns, long_ago_ns))
    word = store.generation.word()
    assert word is not None
    assert Generation(tmp_path / "store").word() != word  # of another process
    store.close()
