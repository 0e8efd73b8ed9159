"""No ledger is written that does not add up, whatever went wrong on the way to it."""

from __future__ import annotations

import time

import pytest
from spans import MS, a_while_ago, batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger import rounds
from layerline_correlator.verdict.model import Verdict

BROKEN, SOUND = "bad" + "0" * 29, "900d" + "0" * 28

#: What a fault may do to the evidence, and what the ledger is then refused for.
FAULTS = {
    "FROM evidence_made UNION ALL FROM evidence_made": "its parts exceed its duration",
    "SELECT * REPLACE (2 * lost_ns AS lost_ns) FROM evidence_made": "its parts exceed its duration",
    "SELECT * REPLACE (-lost_ns AS lost_ns, -low_ns AS low_ns) FROM evidence_made": "a part is negative",
    "SELECT * REPLACE (-1 AS low_ns) FROM evidence_made": "a part is negative",
    "SELECT * REPLACE (lost_ns + 1 AS low_ns) FROM evidence_made": "a part is outside its own range",
    "SELECT * REPLACE (lost_ns - 1 AS high_ns) FROM evidence_made": "a part is outside its own range",
    "SELECT * REPLACE (NULL AS high_ns) FROM evidence_made": "a part is outside its own range",
}


def appended(correlator: Correlator) -> tuple[Verdict, Verdict]:
    """A request of BROKEN, which computes for 80 of its 100 ms, and one of SOUND beside it."""
    zero_ns = a_while_ago()
    one = {"id": "a", "kind": "server", "service": "broken", "ms": [0, 100], "cpu": 80, "wait": 0}
    correlator.append(batch([span_row(one, BROKEN, zero_ns), span_row({**one, "service": "sound"}, SOUND, zero_ns)]))
    broken, sound = correlator.verdict(BROKEN), correlator.verdict(SOUND)
    assert broken is not None
    assert sound is not None
    return broken, sound


@pytest.mark.parametrize("fault", FAULTS)
def test_a_ledger_that_does_not_add_up_is_refused_alone(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Its request is kept with all of its time unexplained, and counted; the request beside it keeps its parts."""
    made = rounds.Taking._make

    def broken(self: rounds.Taking, table: str, select: str) -> int:
        if table == "evidence":
            of_broken = "SELECT piece_no FROM piece JOIN entry USING (request_no) WHERE entry.service = 'broken'"
            select = (
                f"WITH evidence_made AS (FROM ({select}) WHERE piece_no IN ({of_broken})) {fault}"
                f" UNION ALL FROM ({select}) WHERE piece_no NOT IN ({of_broken})"
            )
        return made(self, table, select)

    monkeypatch.setattr(rounds.Taking, "_make", broken)
    refused, sound = appended(correlator)
    assert (refused.parts, refused.unexplained_ns, refused.duration_ns) == ([], 100 * MS, 100 * MS)
    assert [(part.cause, part.lost_ns) for part in sound.parts] == [("app.cpu_busy", 80 * MS)]
    assert sound.unexplained_ns == 20 * MS
    assert FAULTS[fault] in caplog.text
    assert correlator.health().refused_ledgers >= 1
    coverage = correlator.coverage(0, time.time_ns())
    assert {one.service: one.refused for one in coverage.services} == {"broken": 1, "sound": 0}


def test_a_ledger_that_was_refused_is_written_when_it_adds_up(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the fault is gone, the next time that the trace is worked out gives it its parts."""
    made = rounds.Taking._make
    with monkeypatch.context() as patched:
        patched.setattr(
            rounds.Taking,
            "_make",
            lambda self, table, select: made(
                self, table, f"FROM ({select}) UNION ALL FROM ({select})" if table == "evidence" else select
            ),
        )
        refused, _ = appended(correlator)
        assert refused.parts == []
    again, _ = appended(correlator)
    assert [part.lost_ns for part in again.parts] == [80 * MS]
    assert sum(one.refused for one in correlator.coverage(0, time.time_ns()).services) == 0


def test_a_cause_that_claims_more_than_there_is_gets_what_there_is(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims are kept within their pieces before anything is added up: nothing has to be refused."""
    claims = rounds.Taking._claims

    def greedy(self: rounds.Taking, causes: tuple[rounds.Cause, ...]) -> str:
        doubled = "2 * coalesce(lost_ns, 80_000_000) AS lost_ns, 3 * high_ns AS high_ns"
        return f"SELECT * REPLACE ({doubled}) FROM ({claims(self, causes)})"

    monkeypatch.setattr(rounds.Taking, "_claims", greedy)
    broken, _ = appended(correlator)
    assert [(part.cause, part.lost_ns) for part in broken.parts] == [("app.cpu_busy", 80 * MS)]
    assert broken.unexplained_ns == 20 * MS
    assert correlator.health().refused_ledgers == 0
