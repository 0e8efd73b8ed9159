"""Incidents are found without being asked: when they began, why, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shop import S, During, carts, failing, serve, slow_code, slow_prices, throttled
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
    from datetime import datetime

    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def test_three_faults_are_three_incidents(correlator: Correlator) -> None:
    """Three faults at known times give exactly three incidents, each with its start, its end, its cause and its entity."""
    zero_ns = a_while_ago(1500)
    serve(
        correlator,
        carts(
            zero_ns,
            900,
            During(330, 420, throttled),
            During(540, 630, slow_prices),
            During(750, 840, slow_code),
        ),
    )
    incidents = found(correlator)
    assert [one["cause"] for one in incidents] == ["container.cpu_throttled", "dependency.slow", "app.cpu_busy"]
    assert [one["entity"]["id"] for one in incidents] == [
        container_id("stock-1"),
        "prices:8000",
        container_id("web-1"),
    ]
    for one, fault_s in zip(incidents, (330, 540, 750), strict=True):
        assert one["state"] == "ended"
        assert abs(start_s(one, zero_ns) - fault_s) <= 10
        assert abs(seconds(one["end"]) - zero_ns / S - fault_s - 90) <= 10
        assert one["conclusive"]
    assert incidents[0]["operations"] == [["stock", "GET /stock"], ["web", "GET /cart"]]
    assert incidents[2]["services"] == ["web"]


def test_errors_are_an_incident(correlator: Correlator) -> None:
    """Requests that begin to fail are found too, though none is slow."""
    zero_ns = a_while_ago(1000)
    serve(correlator, carts(zero_ns, 500, During(330, 400, failing)))
    (incident,) = found(correlator)
    assert abs(start_s(incident, zero_ns) - 330) <= 10
    assert incident["hit"][0]["signs"] == ["error"]
    assert "failed" in incident["summary"]
    assert incident["cause"] is None


def test_what_goes_on_is_open_and_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """An incident that goes on has no end; after a restart it goes on under its id, and ends when the trouble does."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    zero_ns = a_while_ago(460)
    everything = list(carts(zero_ns, 450, During(330, 390, throttled)))
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


@pytest.mark.parametrize("seed", [2, 3])
def test_a_healthy_shop_has_no_incident(correlator: Correlator, seed: int) -> None:
    """Heavy tails and rare pauses are usual: an hour of them raises nothing."""
    zero_ns = a_while_ago(3700)
    serve(correlator, carts(zero_ns, 3600, rate=1.0, seed=seed))
    assert found(correlator) == []
