"""Incidents are found without being asked: when they began, why, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from shop import (
    During,
    Request,
    S,
    carts,
    crowded_out,
    failing,
    found,
    happened,
    second,
    seconds,
    serve,
    slow_code,
    slow_prices,
    throttled,
)
from spans import a_while_ago, container_id, series_rows

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.paging import BadCursor
from layerline_correlator.settings import Settings

DAY = 86400 * S


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """Five healthy minutes, then four faults with healthy minutes between them; and when it began.

    The limit of one of two containers of stock is lowered; a neighbour comes; web is deployed anew; carts fail.
    """
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("afternoon"), group_ns=1_000_000))
    zero_ns = a_while_ago(1700)

    def change(request: Request, at_s: float, draw: random.Random) -> None:
        second = draw.random() < 0.5
        request.stock = {"container": "stock-2", "pid": 77} if second else {}
        request.throttled = request.throttled if second else 0.0
        request.web_version = "1.5" if 730 <= at_s < 800 else "1.4"

    faults = (During(330, 400, throttled), During(530, 600, crowded_out), During(730, 800, slow_code))
    ran = range(1100)
    noisy_ms = [max(0, min(second, 600) - 530) * 1000 for second in ran]
    at = [second * 1000 for second in ran]
    used_ms = [a // 20 + b for a, b in zip(at, noisy_ms, strict=True)]
    cpus = [2.0 if a < 329_000 else 0.2 for a in at]
    series = [
        {"signal": "container.cpu.time", "container": "noisy", "at": at[529:], "values": noisy_ms[529:]},
        {
            "signal": "system.cpu.time",
            "tags": {"cpu.mode": "user"},
            "at": at,
            "values": used_ms,
        },
        {
            "signal": "container.cpu.limit",
            "container": "stock-2",
            "at": at,
            "values": cpus,
        },
    ]
    events = [
        happened("stock-2", "container.update", zero_ns + 329 * S),
        happened("noisy", "container.start", zero_ns + 529 * S),
        happened("bystander", "container.start", zero_ns + 325 * S),
    ]
    serve(
        correlator,
        carts(zero_ns, 1100, *faults, During(930, 1000, failing), rate=2.0, change=change),
        [series_rows(drawn, zero_ns) for drawn in series],
        events,
    )
    yield correlator, zero_ns
    correlator.close()


def test_three_faults_are_three_incidents(afternoon: tuple[Correlator, int]) -> None:
    """Three faults at known times give exactly three incidents, each with start, end, cause and entity."""
    correlator, zero_ns = afternoon
    incidents = found(correlator)[:3]
    assert [one["cause"] for one in incidents] == ["container.cpu_throttled", "host.cpu_contended", "app.cpu_busy"]
    assert [one["entity"]["id"] for one in incidents] == [
        container_id("stock-2"),
        "host-1-id",
        container_id("web-1"),
    ]
    for one, fault_s in zip(incidents, (330, 530, 730), strict=True):
        assert one["state"] == "ended"
        assert abs(second(one, "start", zero_ns) - fault_s) <= 10
        assert abs(seconds(one["end"]) - zero_ns / S - fault_s - 70) <= 10
        assert one["conclusive"]
    assert incidents[1]["services"] == ["stock", "web"]
    assert incidents[2]["services"] == ["web"]


def test_calls_that_got_slower_are_told_with_their_side(afternoon: tuple[Correlator, int]) -> None:
    """Where stock is held back, its answers take longer: at the callee. Where web's own code is slow, none do."""
    correlator, _ = afternoon
    quota, neighbour, code, _ = found(correlator)
    for incident in (quota, neighbour):
        edge = incident["edges"][0]
        assert (edge["caller"], edge["callee"], edge["side"], edge["sure"]) == ("web", "stock", "callee", True)
        assert edge["duration_change_ns"] >= 20_000_000
        assert edge["before_errors"] == 0
    assert code["edges"] == []


def test_the_change_that_fits_is_named_first(afternoon: tuple[Correlator, int]) -> None:
    """The lowered limit, the neighbour's start and the new version are tied to their incidents; a bystander is not."""
    correlator, _ = afternoon
    quota, neighbour, code, _ = found(correlator)
    assert [(change["kind"], change["entity"]["name"]) for change in quota["changes"]] == [
        ("limit", "stock-2"),
        ("container.update", "stock-2"),
    ]
    assert "was 2" in quota["changes"][0]["what"]
    assert (neighbour["changes"][0]["kind"], neighbour["changes"][0]["entity"]["name"]) == ("container.start", "noisy")
    assert (code["changes"][0]["kind"], code["changes"][0]["what"]) == (
        "version",
        "web runs version 1.5 instead of 1.4",
    )
    for incident in (quota, neighbour, code):
        assert incident["changes"][0]["likely"]
        assert abs(incident["changes"][0]["offset_ns"]) <= 3 * S


def test_the_blast_radius_is_told_by_tag(afternoon: tuple[Correlator, int]) -> None:
    """Where one of two containers is hit, its tags tell affected requests from the others."""
    correlator, _ = afternoon
    quota, *_ = found(correlator)
    assert "only container stock-2" in quota["radius"]["sentence"]
    assert 0.3 < quota["affected"] / quota["requests"] < 0.7


def test_what_slow_requests_have_in_common_is_told(afternoon: tuple[Correlator, int]) -> None:
    """Slow requests ran the new version, the ordinary ones before did not."""
    correlator, _ = afternoon
    code = found(correlator)[2]
    version = next(share for share in code["common"] if share["key"] == "service.version")
    assert (version["value"], version["affected_ratio"], version["others_ratio"]) == ("1.5", 1.0, 0.0)
    assert version["lift"] is None


def test_first_signs_series_and_propagation(afternoon: tuple[Correlator, int]) -> None:
    """The layer that began it is the first sign, its excess is in its steps only, and callers are explained by it."""
    correlator, _ = afternoon
    quota, neighbour, _, _ = found(correlator)
    assert quota["first_signs"][0]["layer"] == "container"
    assert neighbour["first_signs"][0]["layer"] == "host"
    series = quota["excess"]["series"][0]
    assert series["cause"] == "container.cpu_throttled"
    assert max(series["excess_ns"][:5]) == 0
    assert max(series["excess_ns"]) > 1 * S
    assert {("web", "stock"), ("stock", "stock")} <= {(one["service"], one["by"]) for one in quota["propagation"]}


def test_without_its_cause_an_operation_is_as_before(afternoon: tuple[Correlator, int]) -> None:
    """The counterfactual takes away what the cause cost and nothing else: p95 is about what it usually is."""
    correlator, _ = afternoon
    for incident in found(correlator)[:3]:
        (without, *_) = incident["without"]
        usual = next(hit["usual_p95_ns"] for hit in incident["hit"] if hit["service"] == "web")
        assert without["p95_ns"] > 200_000_000
        assert abs(without["p95_without_ns"] - usual) < 0.35 * usual
        assert without["p95_without_low_ns"] <= without["p95_without_ns"] <= without["p95_without_high_ns"]
        assert without["at_least"] == (incident["cause"] != "app.cpu_busy")


def test_the_verdict_adds_up(afternoon: tuple[Correlator, int]) -> None:
    """The verdict of an incident is one verdict over its affected requests, to the nanosecond."""
    correlator, _ = afternoon
    for incident in found(correlator):
        verdict = incident["verdict"]
        assert sum(part["lost_ns"] for part in verdict["parts"]) + verdict["unexplained_ns"] == verdict["duration_ns"]


def test_incidents_are_listed_by_window_state_and_page(afternoon: tuple[Correlator, int]) -> None:
    """The newest first; a window takes what went on in it; `next` goes on without gap or repeat."""
    correlator, zero_ns = afternoon
    window = IncidentQuery(zero_ns, zero_ns + DAY, limit=3)
    first = correlator.incidents.list(window)
    second = correlator.incidents.list(replace(window, cursor=first.next))
    starts = [item["start"] for item in [*first.items, *second.items]]
    assert len(starts) == 4
    assert starts == sorted(starts, reverse=True)
    assert second.next is None
    with pytest.raises(BadCursor):
        correlator.incidents.list(replace(window, cursor="nonsense"))
    during = IncidentQuery(zero_ns + 350 * S, zero_ns + 360 * S)
    assert [item["cause"] for item in correlator.incidents.list(during).items] == ["container.cpu_throttled"]
    assert correlator.incidents.list(replace(window, state="open")).items == []
    assert len(correlator.incidents.list(replace(window, service="stock")).items) == 2
    assert "matches the filters" in (correlator.incidents.list(replace(window, service="nobody")).reason or "")
    assert correlator.incidents.one("0" * 12) is None


def test_errors_are_an_incident(afternoon: tuple[Correlator, int]) -> None:
    """Requests that begin to fail are found too, though none is slow."""
    correlator, zero_ns = afternoon
    (incident,) = found(correlator)[3:]
    assert abs(second(incident, "start", zero_ns) - 930) <= 10
    assert incident["hit"][0]["signs"] == ["error"]
    assert incident["kind"] == "errors"
    assert "failed" in incident["summary"]
    assert "an error without a message in web" in incident["summary"]
    assert incident["cause"] is None
    assert incident["verdict"]["culprits"] == []


def test_what_goes_on_is_open_and_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """An incident that goes on has no end; after a restart it goes on under its id, and ends when the trouble does."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    zero_ns = a_while_ago(460)
    everything = list(carts(zero_ns, 450, During(330, 390, slow_prices), rate=2.0))
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
        with correlator._writing() as cursor:  # as a version left it that did not know when each sign was seen
            cursor.execute("UPDATE trouble SET stretches = NULL").fetchall()
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


def test_a_shop_that_just_opened_has_no_usual_yet(correlator: Correlator) -> None:
    """Before twenty requests of an operation nothing can be unusual, and the empty list says that and nothing else."""
    zero_ns = a_while_ago(60)
    serve(correlator, carts(zero_ns, 5, rate=1.0))
    page = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + 60 * S))
    assert "no usual yet" in (page.reason or "")


def test_what_is_imported_is_looked_at_too(correlator: Correlator) -> None:
    """Trouble of yesterday, received today, is found with its own times and is over."""
    zero_ns = a_while_ago(86_400)
    serve(correlator, carts(zero_ns, 500, During(330, 400, slow_code), rate=1.5))
    (incident,) = found(correlator)
    assert (incident["cause"], incident["state"]) == ("app.cpu_busy", "ended")
    assert abs(second(incident, "start", zero_ns) - 330) <= 10
