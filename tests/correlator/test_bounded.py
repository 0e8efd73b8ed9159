"""What a server remembers is bounded, whatever strangers send, and what was forgotten is found again in the store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from spans import MS, a_while_ago, batch, container_id, resource, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.facts import names
from layerline_correlator.facts.names import Names
from layerline_correlator.ledger import careful, waiting
from layerline_correlator.ledger.careful import Careful
from layerline_correlator.ledger.waiting import Waiting
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch
from layerline_correlator.store.store import Extent
from layerline_correlator.verdict import triage
from layerline_correlator.verdict.triage import Triage
from waiting import eventually


def test_traces_beyond_what_is_remembered_are_to_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While very many wait no more are remembered; once they are done, the store is looked through for the rest."""
    monkeypatch.setattr(waiting, "MOST_FRESH", 3)
    wait, now = Waiting(), time.time_ns()
    wait.arrived({f"t{number}": Extent(now, now) for number in range(10)}, now)
    assert wait.fresh == 3
    assert not wait.is_to_look()
    wait.arrived({"t1": Extent(now - 5, now)}, now)  # more of one that is remembered
    assert wait.take_fresh()["t1"].from_ns == now - 5
    assert not wait.is_to_look()
    wait.all_sorted()
    assert wait.is_to_look()
    assert wait.is_due(now)


def test_what_was_not_remembered_gets_its_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more traces than are remembered each has its ledger in the end, once."""
    monkeypatch.setattr(waiting, "MOST_FRESH", 4)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=0))
    zero_ns = a_while_ago(60)
    spans = [
        span_row({"id": "a", "kind": "server", "ms": [0, 100], "cpu": 100}, f"{number + 1:032x}", zero_ns + number * MS)
        for number in range(8)
    ]
    correlator.append(batch(spans))  # one transaction
    eventually(lambda: not correlator.behind() and not correlator._waiting.has_forgotten, "all ledgers")
    with correlator._store.cursor() as cursor:
        found = "SELECT count(*), count(DISTINCT trace_id) FROM request WHERE weight > 0"
        eventually(lambda: cursor.execute(found).fetchall() == [(8, 8)], "eight ledgers")
    correlator.close()


def test_failed_traces_are_remembered_up_to_a_number(
    correlator: Correlator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traces that failed last are remembered, also by the next process; those before may be tried again."""
    monkeypatch.setattr(careful, "REMEMBERED", 5)

    def fails(_traces: object, _readings: bool) -> None:
        raise ValueError("never")

    with correlator._store.cursor() as cursor:
        worker = Careful(cursor, tmp_path, fails)
        for number in range(7):
            worker.work_out({f"{number:032x}": Extent(1, 2)})
        assert list(worker._tries) == [f"{number:032x}" for number in range(2, 7)]
        assert set(Careful(cursor, tmp_path, fails)._tries) == set(worker._tries)


def test_usuals_of_made_up_operations_are_forgotten(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids in the names of operations do not pile up, and every operation that is asked for has its answer."""
    monkeypatch.setattr(triage, "_MOST_USUALS", 10)
    with correlator._store.cursor() as cursor:
        sorts = Triage(cursor, 500 * MS)
        for first in range(0, 40, 4):
            asked = [("web", f"GET /{number}") for number in range(first, first + 4)]
            assert sorts._usual_of(asked, None) == dict.fromkeys(asked)
            assert len(sorts._usual) <= 12


def test_names_of_more_containers_than_are_remembered(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each container, machine and process has its name however many there are, and few of them are kept."""
    monkeypatch.setattr(names, "MOST", 3)
    number = 6
    rows = [resource(None, f"c{each}", f"h{each}") for each in range(number)]
    rows += [resource(None, None, f"h{each}") for each in range(number)]
    rows += [resource("web", f"c{each}", f"h{each}", pid=each + 1) for each in range(number)]
    correlator.append(Batch(resources=rows))
    with correlator._store.cursor() as cursor:
        known = Names(cursor)
        for each in range(number):
            assert known.entity("container", container_id(f"c{each}")).name == f"c{each}"
            assert known.entity("host", f"h{each}").name == f"h{each}-name"
            assert known.entity("process", f"h{each}:{container_id(f'c{each}')}:{each + 1}").name == (
                f"web (process {each + 1})"
            )
        assert known.entity("container", "f" * 64).name == "f" * 12
        assert max(len(known._containers), len(known._hosts), len(known._processes)) <= 2 * names.MOST
