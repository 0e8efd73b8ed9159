"""An SLO and incidents as the question of a monitor: whom they find, when that is over, and when it cannot be said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from shop import During, Request, S, carts, serve
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.slo import Promise
from layerline_correlator.monitors.model import Alert, Monitor
from layerline_correlator.monitors.sources import IncidentFilter
from layerline_correlator.settings import Settings

HOUR = 3600 * S
#: The shop is open for so many seconds; every second cart fails in these.
OPEN_S, FROM_S, TO_S = 900, 300, 400


def half_fail(request: Request, draw: random.Random) -> None:
    request.status = 2 if draw.random() < 0.5 else 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """A cart a second, and when the shop opened."""
    zero_ns = a_while_ago(OPEN_S + 10)
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    serve(correlator, carts(zero_ns, OPEN_S, During(FROM_S, TO_S, half_fail), rate=1.0))
    yield correlator, zero_ns
    correlator.close()


def monitor(question: Promise | IncidentFilter) -> Monitor:
    source = "slo" if isinstance(question, Promise) else "incidents"
    return Monitor("m1", "x", source, question.model_dump_json(exclude_none=True), 10 * S, 0, (), created_ns=1)


def tried(shop: tuple[Correlator, int], question: Promise | IncidentFilter) -> list[Alert]:
    correlator, zero_ns = shop
    return correlator.monitors.preview(monitor(question), zero_ns, zero_ns + OPEN_S * S, lambda: False).alerts


@pytest.mark.parametrize(
    ("of", "entity"),
    [
        ({"service": "web", "operation": "GET /cart"}, ("operation", "web GET /cart")),
        ({"service": "web"}, ("service", "web")),
        ({"service": "*"}, ("service", "web")),
        ({"service": "*", "operation": "*"}, ("operation", "web GET /cart")),
    ],
)
def test_an_slo_is_a_monitor(shop: tuple[Correlator, int], of: dict[str, str], entity: tuple[str, str]) -> None:
    """One alert, of who spends the budget, from soon after the failures began until they were made up for; stock, which
    does not fail, has none."""
    (alert,) = tried(shop, Promise(objective=0.9, **of))
    assert (alert.entity.type, alert.entity.name) == entity
    assert alert.fired_ns is not None
    assert alert.resolved_ns is not None
    assert FROM_S * S < alert.fired_ns - shop[1] <= TO_S * S < alert.resolved_ns - shop[1]
    assert "times as fast as it may over 72 h" in alert.figures["summary"]
    assert (alert.figures["slo"]["service"], alert.figures["slo"]["burning"]) == ("web", True)


@pytest.mark.parametrize("of", [{"service": "web", "operation": "GET /"}, {"service": "stock"}, {"service": "web%"}])
def test_an_slo_that_is_kept_is_no_alert(shop: tuple[Correlator, int], of: dict[str, str]) -> None:
    """Who does not fail, or is not there, is well."""
    assert tried(shop, Promise(objective=0.9, **of)) == []


def test_an_slo_counts_what_takes_too_long() -> None:
    """The name of a promise says what is promised, and its SLO has the nanoseconds."""
    promise = Promise(service="web", operation="GET /cart", objective=0.999, threshold="1.5s")
    assert str(promise) == "99.9 % of web GET /cart succeed within 1.5s"
    assert promise.slo().threshold_ns == 1_500_000_000
    assert str(Promise(service="web", objective=0.5)) == "50 % of web succeed"


def test_of_a_burn_without_requests_nothing_is_known(shop: tuple[Correlator, int]) -> None:
    """Nobody comes for seven hours: whether the failures are over cannot be said, and the alert stays. When the
    failures are older than the longest window there is nothing to say of them any more."""
    correlator, zero_ns = shop
    asked = monitor(Promise(service="web", objective=0.95))
    correlator.monitors.save(asked)
    states = []
    for at_ns in (TO_S * S, 7 * HOUR, 80 * HOUR):
        correlator.monitors.evaluate("m1", zero_ns + at_ns)
        states.append([alert.state for alert in correlator.monitors.open_alerts("m1")])
    (alert,) = correlator.monitors.history("m1", 10)
    correlator.monitors.delete(asked, zero_ns + 80 * HOUR)
    assert states == [["firing"], ["firing"], []]
    assert (alert.state, alert.held_ns, alert.resolved_ns) == (
        "resolved", zero_ns + TO_S * S, zero_ns + 80 * HOUR,
    )  # fmt: skip


@pytest.mark.parametrize("of", [{}, {"service": "web"}])
def test_incidents_are_a_monitor(shop: tuple[Correlator, int], of: dict[str, Any]) -> None:
    """One alert for the incident, from when it was noticed to its end, with its summary."""
    (alert,) = tried(shop, IncidentFilter(**of))
    found = alert.figures["incident"]
    assert (alert.entity.type, alert.entity.id) == ("incident", found["id"])
    assert alert.figures["summary"] == found["summary"]
    assert alert.figures["summary"].startswith("web GET /cart failed")
    assert alert.fired_ns is not None
    assert alert.resolved_ns is not None
    assert FROM_S * S < alert.fired_ns - shop[1] < alert.resolved_ns - shop[1] < OPEN_S * S


@pytest.mark.parametrize("of", [{"service": "stock"}, {"cause": "host.cpu_stolen"}, {"service": "nobody"}])
def test_other_incidents_are_no_alert(shop: tuple[Correlator, int], of: dict[str, Any]) -> None:
    """Service and cause say which."""
    assert tried(shop, IncidentFilter(**of)) == []
    assert str(IncidentFilter(**of)).startswith("incidents ")
