"""Incidents are found without being asked: when they began, why, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from shop import During, S, carts, failing, serve, slow_code, slow_prices, throttled
from spans import a_while_ago, container_id

from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.model import IncidentQuery
from layerline_correlator.settings import Settings

DAY = 86400 * S


def found(correlator: Correlator) -> list[dict[str, Any]]:
    """All incidents, the oldest first, whole."""
    now_ns = a_while_ago(0)
    items = correlator.incidents.list(IncidentQuery(now_ns - DAY, now_ns + DAY)).items
    documents = [correlator.incidents.one(item["id"]) for item in reversed(items)]
    return [document for document in documents if document is not None]


def start_s(incident: dict[str, Any], zero_ns: int) -> float:
    """When it began, in seconds from the shop's opening."""
    return seconds(incident["start"]) - zero_ns / S


def seconds(text: str) -> float:
    """A time of the API in seconds since 1970."""
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """Five healthy minutes, then four faults with healthy minutes between them; and when it began."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("afternoon"), group_ns=1_000_000))
    zero_ns = a_while_ago(1700)
    faults = (During(330, 400, throttled), During(530, 600, slow_prices), During(730, 800, slow_code))
    serve(correlator, carts(zero_ns, 1100, *faults, During(930, 1000, failing), rate=2.0))
    yield correlator, zero_ns
    correlator.close()


def test_three_faults_are_three_incidents(afternoon: tuple[Correlator, int]) -> None:
    """Three faults at known times give exactly three incidents, each with start, end, cause and entity."""
    correlator, zero_ns = afternoon
    incidents = found(correlator)[:3]
    assert [one["cause"] for one in incidents] == ["container.cpu_throttled", "dependency.slow", "app.cpu_busy"]
    assert [one["entity"]["id"] for one in incidents] == [
        container_id("stock-1"),
        "prices:8000",
        container_id("web-1"),
    ]
    for one, fault_s in zip(incidents, (330, 530, 730), strict=True):
        assert one["state"] == "ended"
        assert abs(start_s(one, zero_ns) - fault_s) <= 10
        assert abs(seconds(one["end"]) - zero_ns / S - fault_s - 70) <= 10
        assert one["conclusive"]
    assert incidents[0]["operations"] == [["stock", "GET /stock"], ["web", "GET /cart"]]
    assert incidents[2]["services"] == ["web"]


def test_errors_are_an_incident(afternoon: tuple[Correlator, int]) -> None:
    """Requests that begin to fail are found too, though none is slow."""
    correlator, zero_ns = afternoon
    (incident,) = found(correlator)[3:]
    assert abs(start_s(incident, zero_ns) - 930) <= 10
    assert incident["hit"][0]["signs"] == ["error"]
    assert "failed" in incident["summary"]
    assert incident["cause"] is None


def test_what_goes_on_is_open_and_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """An incident that goes on has no end; after a restart it goes on under its id, and ends when the trouble does."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    zero_ns = a_while_ago(460)
    everything = list(carts(zero_ns, 450, During(330, 390, throttled), rate=2.0))
    correlator = Correlator.open(settings)
    try:
        serve(correlator, (rows for rows in everything if rows[0][1].start_ns < zero_ns + 389 * S))
        (before,) = found(correlator)
    finally:
        correlator.close()
    correlator = Correlator.open(settings)
    try:
        correlator.look_for_incidents()
        (same,) = found(correlator)
        serve(correlator, (rows for rows in everything if rows[0][1].start_ns >= zero_ns + 389 * S))
        (after,) = found(correlator)
    finally:
        correlator.close()
    assert before["state"] == same["state"] == "open"
    assert before["end"] is None
    assert before["id"] == same["id"] == after["id"]
    assert before["start"] == same["start"] == after["start"]
    assert after["state"] == "ended"
    assert abs(seconds(after["end"]) - zero_ns / S - 390) <= 10


def test_a_healthy_shop_has_no_incident(correlator: Correlator) -> None:
    """Heavy tails and rare pauses are usual and raise nothing; the empty list says so."""
    zero_ns = a_while_ago(2000)
    serve(correlator, carts(zero_ns, 1800, rate=1.0, seed=2))
    assert found(correlator) == []
    page = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + 3600 * S))
    assert "more often than usual" in (page.reason or "")
