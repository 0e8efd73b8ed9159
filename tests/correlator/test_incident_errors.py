"""An incident of errors is about the error: what was raised, where, since when; no time is blamed for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from shop import During, Request, Rows, S, carts, found, second, serve, throttled
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.incidents.changes import Happened, Path, judge_changes
from layerline_correlator.incidents.group import Trouble, are_related
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import STATUS_ERROR, EventRow, ResourceRow, SpanDetails, SpanEvent, resource_key
from layerline_correlator.verdict.model import Failure

REFUSED, LIMITED = (180, 230), (330, 380)


def burning(request: Request, draw: random.Random) -> None:
    """Three of five carts are refused, and stock computes for a quarter of a second over each of these."""
    request.web_attributes = {"refused": "yes"} if draw.random() < 0.6 else {}
    request.stock_cpu += 250 if request.web_attributes else 0


def timing_out(request: Request, draw: random.Random) -> None:
    """Stock's quota binds for all, and one of four carts gives up."""
    throttled(request, draw)
    request.web_attributes = {"late": "yes"} if draw.random() < 0.25 else {}


def failed(rows: Rows, number: int) -> Rows:
    """The cart as its services tell of its failure."""
    owner, web = rows[0]
    if "late" in web.attributes:
        return [
            (owner, web._replace(status=STATUS_ERROR, details=raised(web.end_ns, "TimeoutError", "stock"))),
            *rows[1:],
        ]
    if "refused" not in web.attributes:
        return rows
    spans = [row for _, row in rows]
    spans[0] = web._replace(status=STATUS_ERROR, attributes=web.attributes | {"http.response.status_code": "502"})
    spans[1] = spans[1]._replace(status=STATUS_ERROR)
    spans[2] = spans[2]._replace(status=STATUS_ERROR, details=raised(spans[2].end_ns, "StockError", "no price"))
    message = f"connection {number} refused"
    spans[3] = spans[3]._replace(
        status=STATUS_ERROR, details=raised(spans[3].end_ns, "ConnectionRefusedError", message)
    )
    return [(owner, span) for (owner, _), span in zip(rows, spans, strict=True)]


def raised(at_ns: int, type: str, message: str) -> SpanDetails:
    return SpanDetails(events=[SpanEvent(at_ns, "exception", {"exception.type": type, "exception.message": message})])


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Healthy minutes, a dependency that refuses, healthy minutes, a CPU limit that makes calls run out of time."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("afternoon"), group_ns=1_000_000))
    zero_ns = a_while_ago(500)
    faults = (During(*REFUSED, burning), During(*LIMITED, timing_out))
    attributes = {"service.name": "stock", "service.version": "2"}
    teller = ResourceRow(resource_key(attributes), attributes)
    deploy = (teller, EventRow(teller.resource, zero_ns + 170 * S, "deployment", "deployed stock 2", attributes))
    rows = (failed(cart, number) for number, cart in enumerate(carts(zero_ns, 440, *faults, rate=1.5)))
    serve(correlator, rows, [], [deploy])
    yield found(correlator), zero_ns
    correlator.close()


def test_errors_blame_the_error(afternoon: tuple[list[dict[str, Any]], int]) -> None:
    """Callers and callee are one incident, whose sentence names error and dependency, although CPU time was spent."""
    incident, zero_ns = afternoon[0][0], afternoon[1]
    assert incident["kind"] == "errors"
    assert sorted(incident["operations"]) == [["stock", "GET /stock"], ["web", "GET /cart"]]
    assert abs(second(incident, "start", zero_ns) - REFUSED[0]) <= 10
    assert (incident["cause"], incident["conclusive"]) == (None, True)
    assert incident["entity"]["name"] == "prices:8000"
    assert "ConnectionRefusedError: connection" in incident["summary"]
    assert "calling prices:8000" in incident["summary"]
    assert "cpu" not in incident["summary"].lower()
    assert incident["verdict"]["culprits"] == incident["first_signs"] == incident["without"] == []
    first = incident["failures"][0]
    assert (first["type"], first["service"], first["before"]) == ("ConnectionRefusedError", "stock", 0)
    hit = next(one for one in incident["hit"] if [one["service"], one["operation"]] == [
        incident["verdict"]["service"], incident["verdict"]["operation"]])  # fmt: skip
    assert sum(one["requests"] for one in incident["failures"]) == hit["errors"]
    assert f"({hit['errors']} of {hit['requests']} requests failed)" in incident["summary"]


def test_what_changed_before_errors_is_marked(afternoon: tuple[list[dict[str, Any]], int]) -> None:
    """New code of the service that fails at its dependency is likely."""
    change = afternoon[0][0]["changes"][0]
    assert (change["kind"], change["likely"], change["why"]) == (
        "deployment",
        True,
        "new code may call it in another way",
    )


def test_a_limit_that_makes_some_fail_stays_a_limit(afternoon: tuple[list[dict[str, Any]], int]) -> None:
    """Where more requests are slow than fail, time is blamed, and how the others failed is told beside it."""
    _, incident = afternoon[0]
    assert (incident["kind"], incident["cause"]) == ("time", "container.cpu_throttled")
    assert "held back by its CPU limit" in incident["summary"]
    if incident["failures"]:
        assert incident["failures"][0]["type"] == "TimeoutError"
        assert "failed: TimeoutError: stock in web" in incident["summary"]


FAILURE = Failure(
    type="KeyError", message="'a'", status_code=None, status_of=None, service="stock", span="GET /stock", span_id=None,
    dependency=False, entity=Entity("container", "c" * 64, "stock-1"), services=["web", "stock"],
    said_by="exception", because="KeyError: 'a' in stock", requests=9,
)  # fmt: skip
CALLED = replace(FAILURE, dependency=True, entity=Entity("service", "db:5432", "postgresql at db:5432"))


@pytest.mark.parametrize(
    ("failure", "happened", "why"),
    [
        (FAILURE, Happened(-5, "version", None, "stock", "x"), "the error comes out of new code"),
        (FAILURE, Happened(-5, "deployment", None, "web", "x"), "it is on the way of the requests that fail"),
        (FAILURE, Happened(-5, "deployment", None, None, "x"), "it may have been of this service"),
        (FAILURE, Happened(-5, "deployment", None, "elsewhere", "x"), ""),
        (FAILURE, Happened(-5, "container.restart", "c" * 64, None, "x"), "requests fail in it"),
        (FAILURE, Happened(60 * S, "container.restart", "c" * 64, None, "x"), ""),
        (CALLED, Happened(-5, "container.die", "d" * 64, None, "x"), "it is what was called"),
        (CALLED, Happened(-5, "container.update", "d" * 64, None, "x"), "what it may use changed"),
        (CALLED, Happened(-5, "version", None, "stock", "x"), "new code may call it in another way"),
    ],
)
def test_changes_that_fit_an_error(failure: Failure, happened: Happened, why: str) -> None:
    """New code of the service that fails, and whatever befell what it called, fit; what came later does not."""
    path = Path({"stock": frozenset({"c" * 64}), "web": frozenset()}, {}, {"d" * 64: "db:5432"})
    (change,) = judge_changes([happened], path, None, 0, lambda kind, identity: Entity(kind, identity, ""), failure)
    assert (change.likely, change.why) == (bool(why), why)


def test_the_same_dependency_that_fails_is_one_incident() -> None:
    """Two operations without a trace in common fail for one reason at the same time; another reason is another."""
    db = ("dependency", "db:5432")
    one = Trouble("a", 0, 60 * S, (), frozenset({"t1"}), fails=db)
    other = Trouble("b", 10 * S, 50 * S, (), frozenset({"t2"}), fails=db)
    assert are_related(one, other)
    assert not are_related(one, replace(other, fails=("dependency", "cache:6379")))
    assert not are_related(replace(one, fails=None), replace(other, fails=None))
    assert not are_related(one, replace(other, start_ns=900 * S, end_ns=None))
