"""Incidents are kept as long as the data that they were found in, and never forgotten while they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shop import During, S, carts, serve, slow_prices, throttled
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.settings import Settings

KEPT = 1200 * S


@pytest.fixture
def correlator(tmp_path: Path) -> Correlator:
    return Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, retain_ns=KEPT))


def test_what_ended_before_what_is_kept_is_forgotten_and_what_goes_on_is_not(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three incidents that began before what is kept, the one that ended before it goes, whole."""
    monkeypatch.setattr("layerline_correlator.correlator._RETAIN_S", 3600.0)  # not while the shop is open
    zero_ns = a_while_ago(2400)
    # However long all of this takes, the second one goes on for long after what is kept begins.
    faults = (During(330, 400, throttled), During(1000, 1900, throttled), During(2100, 2401, slow_prices))
    try:
        serve(correlator, carts(zero_ns, 2400, *faults, rate=1.0))
        over, astride, going_on = found(correlator)
        with correlator._writing() as cursor:
            cursor.execute(
                "INSERT INTO incident BY NAME SELECT 'known-as' AS incident, $over AS merged_into", {"over": over["id"]}
            ).fetchall()
        assert correlator.incidents.one("known-as") is not None
        correlator._retain()
        assert [one["id"] for one in found(correlator)] == [astride["id"], going_on["id"]]
        assert correlator.incidents.one(over["id"]) is None
        assert correlator.incidents.one("known-as") is None
        with correlator._reading() as cursor:
            kept = {row for (row,) in cursor.execute("SELECT DISTINCT incident FROM trouble").fetchall()}
        assert kept == {astride["id"], going_on["id"]}
    finally:
        correlator.close()


def found(correlator: Correlator) -> list[dict[str, Any]]:
    """All incidents, the oldest first."""
    now_ns = a_while_ago(0)
    return list(reversed(correlator.incidents.list(IncidentQuery(now_ns - 3 * KEPT, now_ns + KEPT)).items))
