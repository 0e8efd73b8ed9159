"""One service in a window: its heatmap, its requests by operation, container, version; what some have in common."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from shop import During, Request, S, carts, failing, serve, throttled
from spans import a_while_ago, container_id

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.questions.shares import Picked
from layerline_correlator.settings import Settings

SECONDS, LONG_S = 240, 3 * 3600


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Correlator, int]]:
    """Four minutes of a shop. In the last one version 2 serves, `stock` is throttled, and half of the carts fail."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("shop"), group_ns=1_000_000))
    zero_ns = a_while_ago(SECONDS + 60)

    def change(request: Request, at_s: float, draw: object) -> None:
        request.web_version = "2" if at_s >= 180 else "1"

    faults = During(180, 240, throttled), During(180, 240, failing)
    serve(correlator, carts(zero_ns, SECONDS, *faults, rate=1.5, change=change))
    yield correlator, zero_ns
    correlator.close()


@pytest.mark.parametrize("around_s", [0, LONG_S], ids=["row by row", "from summaries"])
def test_every_request_is_in_one_cell(shop: tuple[Correlator, int], around_s: int) -> None:
    """The cells hold as many requests as were answered, each in the row of its duration and the step of its start."""
    correlator, zero_ns = shop
    query = RequestQuery(zero_ns - around_s * S, zero_ns + SECONDS * S, "web")
    found = correlator.service(query)
    bounds, cells = found.heatmap.bounds_ns, found.heatmap.cells
    listed = correlator.requests(RequestQuery(query.from_ns, query.to_ns, "web", min_duration_ns=0, limit=1000)).items
    assert sum(map(sum, cells)) == found.requests == len(listed)
    assert len(cells) + 1 == len(bounds)
    assert bounds == sorted(bounds)
    for row, (low_ns, high_ns) in enumerate(pairwise(bounds)):
        within = sum(low_ns <= one.duration_ns < high_ns for one in listed)
        assert abs(sum(cells[row]) - within) <= 1  # a bound is rounded to a nanosecond


def test_its_requests_are_told_apart(shop: tuple[Correlator, int]) -> None:
    """By operation, container and version, with when the first of each began; failed ones by what failed."""
    correlator, zero_ns = shop
    found = correlator.service(RequestQuery(zero_ns, zero_ns + SECONDS * S, "web"))
    assert [one.name for one in found.operations] == ["GET /cart"]
    assert [one.entity.id for one in found.containers if one.entity] == [container_id("web-1")]
    assert {one.name for one in found.versions} == {"1", "2"}
    newer = next(one for one in found.versions if one.name == "2")
    older = next(one for one in found.versions if one.name == "1")
    assert newer.first > older.first
    assert newer.p95_ns > 2 * older.p95_ns
    assert sum(one.requests for one in found.versions) == found.requests
    assert sum(one.requests for one in found.failures) == found.errors > 0


def test_what_the_slow_ones_have_in_common(shop: tuple[Correlator, int]) -> None:
    """The slow requests have the new version and the cause, which the others have not."""
    correlator, zero_ns = shop
    found = correlator.shares(
        RequestQuery(zero_ns, zero_ns + SECONDS * S, "web"), Picked(zero_ns + 180 * S, None, 200_000_000)
    )
    said = {(one.key, one.value) for one in found.items}
    assert ("version", "2") in said or ("service.version", "2") in said
    assert ("cause", "container.cpu_throttled") in said
    assert (
        found.picked + found.others == correlator.service(RequestQuery(zero_ns, zero_ns + SECONDS * S, "web")).requests
    )
    assert found.examples[0].duration_ns == max(one.duration_ns for one in found.examples)


def test_an_unknown_service_says_why(shop: tuple[Correlator, int]) -> None:
    """Nothing is shown of a service that answered nothing, and nothing is picked of it."""
    correlator, zero_ns = shop
    query = RequestQuery(zero_ns, zero_ns + SECONDS * S, "nobody")
    found = correlator.service(query)
    assert (found.requests, found.heatmap.cells) == (0, [])
    assert "matches the filters" in (found.reason or "")
    assert correlator.shares(query, Picked()).reason == found.reason
