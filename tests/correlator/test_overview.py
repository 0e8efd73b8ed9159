"""The overview of a window: services with their lines and layers, slow requests in groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import During, S, carts, serve, throttled
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.tagquery.model import Tag

MINUTES = 4


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """Four minutes of a shop; in the last the quota of `stock` binds."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("shop"), group_ns=1_000_000))
    zero_ns = a_while_ago(60 * MINUTES + 60)
    serve(correlator, carts(zero_ns, 60 * MINUTES, During(180, 240, throttled), rate=1.5))
    yield correlator, zero_ns
    correlator.close()


def test_a_row_agrees_with_the_services_and_its_steps_with_the_row(shop: tuple[Correlator, int]) -> None:
    """Counts and quantiles are those of `services`, and the steps add up to the window."""
    correlator, zero_ns = shop
    window = zero_ns, zero_ns + 60 * MINUTES * S
    found = correlator.overview(RequestQuery(*window))
    services = {one.service: one for one in correlator.service_map(*window).items}
    assert {one.service for one in found.items} == set(services) == {"web", "stock"}
    for one in found.items:
        of = services[one.service]
        assert (one.requests, one.errors, one.p50_ns, one.p95_ns) == (of.requests, of.errors, of.p50_ns, of.p95_ns)
        assert sum(one.counts) == one.requests
        assert len(one.counts) == len(one.p99) == found.points
        assert [count == 0 for count in one.counts] == [value is None for value in one.p50]


def test_what_is_not_usual_shows_beside_the_time_before(shop: tuple[Correlator, int]) -> None:
    """In the minute of the fault the container's layer takes most of the time, and before it took nothing."""
    correlator, zero_ns = shop
    found = correlator.overview(RequestQuery(zero_ns + 180 * S, zero_ns + 240 * S))
    web = next(one for one in found.items if one.service == "web")
    of = {one.layer: one for one in web.layers}
    assert of["container"].lost_ns > 150_000_000
    assert of["container"].before_ns == 0
    assert web.requests
    shares = sum(one.lost_ns for one in web.layers)
    assert shares > of["container"].lost_ns


def test_slow_requests_stand_together_by_operation_and_cause(shop: tuple[Correlator, int]) -> None:
    """Each slow request is in one group; a group names the worst first, at most five of them."""
    correlator, zero_ns = shop
    query = RequestQuery(zero_ns, zero_ns + 60 * MINUTES * S, limit=1000)
    found = correlator.overview(query)
    slow = correlator.requests(query).items
    assert sum(group.requests for group in found.slow) == len(slow)
    assert found.slow[0].cause == "container.cpu_throttled"
    for group in found.slow:
        assert 1 <= len(group.examples) <= 5
        excess = [one.duration_ns - (one.usual_ns or 0) for one in group.examples]
        assert excess == sorted(excess, reverse=True)
        assert group.longest_ns >= group.examples[0].duration_ns


def test_it_can_be_narrowed(shop: tuple[Correlator, int]) -> None:
    """By service, tags, part of a name and a limit; what is left out is counted."""
    correlator, zero_ns = shop
    window = zero_ns, zero_ns + 60 * MINUTES * S
    assert [one.service for one in correlator.overview(RequestQuery(*window, service="stock")).items] == ["stock"]
    tagged = correlator.overview(RequestQuery(*window, tags=(Tag("service", "stock"),)))
    assert [one.service for one in tagged.items] == ["stock"]
    assert [one.service for one in correlator.overview(RequestQuery(*window), "TOC").items] == ["stock"]
    first = correlator.overview(RequestQuery(*window, limit=1))
    assert (len(first.items), first.left_out) == (1, 1)
    none = correlator.overview(RequestQuery(*window), "nobody")
    assert none.reason == "no service has 'nobody' in its name"


def test_an_empty_store_says_why(tmp_path: Path) -> None:
    """Without requests there are no rows, and a reason."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    found = correlator.overview(RequestQuery(0, 10**18))
    assert (found.items, found.slow) == ([], [])
    assert found.reason == "no request was received in this window"
    correlator.close()
