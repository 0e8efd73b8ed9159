"""The questions over HTTP: parameters, answers, one shape for every failure."""

from __future__ import annotations

from typing import Any

import pytest
from api_fake import SPAN, START_NS, TOKEN, TRACE, FakeCorrelator, full
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as some
from werkzeug.datastructures import MultiDict

from layerline_api.app import create_app
from layerline_api.parameters import VerdictParameters, read
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings


@pytest.fixture
def correlator() -> FakeCorrelator:
    return full()


@pytest.fixture
def client(correlator: FakeCorrelator) -> FlaskClient:
    return create_app(correlator).test_client()


def is_problem(answer: Any, status: int, field: str | None = None) -> None:
    """The one shape of a failure."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    body = answer.json
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body.get("field") == field


def test_requests_are_listed(client: FlaskClient) -> None:
    """A list has items, next and reason; a request has the contract's fields and no others."""
    answer = client.get("/api/v1/requests")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert list(answer.json) == ["items", "next", "reason"]
    assert list(answer.json["items"][0]) == [
        "trace_id", "span_id", "service", "operation", "start", "duration_ns", "usual_ns", "excess_ns", "slow",
        "status", "cause",
    ]  # fmt: skip


def test_a_request_has_its_verdict(client: FlaskClient) -> None:
    """The verdict's JSON is the contract's, `try` without an underscore and nothing of a window."""
    for query in ("", f"?span_id={SPAN}"):
        body = client.get(f"/api/v1/requests/{TRACE}{query}").json
        assert list(body) == [
            "trace_id", "span_id", "service", "operation", "start", "duration_ns", "usual_ns", "excess_ns",
            "ranked_by", "parts", "unexplained_ns", "unexplained_usual_ns", "blind", "culprits", "conclusive",
            "settled", "join", "suspects", "failures",
        ]  # fmt: skip
        assert "try" in body["parts"][0]
        assert sum(part["lost_ns"] for part in body["parts"]) + body["unexplained_ns"] == body["duration_ns"]


def test_a_window_has_its_verdicts(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """Verdicts of a window carry requests, slow and examples; rank=lost asks for them without usual."""
    body = client.get("/api/v1/verdicts?rank=lost").json
    assert (body["items"][0]["slow"], body["items"][0]["examples"][0]) == (3, TRACE)
    assert correlator.asked[-1].absolute


def test_the_small_questions(client: FlaskClient) -> None:
    """Traces, causes, services, healthz and readyz answer."""
    assert client.get(f"/api/v1/traces/{TRACE}").json["trace_id"] == TRACE
    assert client.get("/api/v1/causes").json["items"][0]["cause"] == "container.cpu_throttled"
    assert [one["service"] for one in client.get("/api/v1/services").json["items"]] == ["web"]
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_an_empty_list_says_why() -> None:
    """Nothing received, nothing slow: the list is empty and the reason is not."""
    client = create_app(FakeCorrelator()).test_client()
    for path in ("requests", "verdicts", "services"):
        body = client.get(f"/api/v1/{path}").json
        assert body["items"] == []
        assert body["reason"]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/v1/requests?colour=red", 400, "colour"),
        ("/api/v1/requests?rank=lost", 400, "rank"),
        ("/api/v1/requests?limit=0", 400, "limit"),
        ("/api/v1/requests?limit=1001", 400, "limit"),
        ("/api/v1/requests?limit=+5", 400, "limit"),
        ("/api/v1/requests?limit=5&limit=6", 400, "limit"),
        ("/api/v1/requests?cursor=nonsense", 400, "cursor"),
        ("/api/v1/verdicts?cursor=nonsense", 400, "cursor"),
        ("/api/v1/requests?order=name", 400, "order"),
        ("/api/v1/verdicts?rank=best", 400, "rank"),
        ("/api/v1/requests?since=15", 400, "since"),
        ("/api/v1/requests?since=-15m", 400, "since"),
        (f"/api/v1/requests?since={'9' * 400}h", 400, "since"),
        ("/api/v1/requests?since=0s", 400, "to"),
        ("/api/v1/requests?since=5m&from=2026-11-23T10:00:00Z", 400, "since"),
        ("/api/v1/requests?from=2026-11-23T10:00:00", 400, "from"),
        ("/api/v1/requests?from=2026-11-23", 400, "from"),
        ("/api/v1/requests?from=2026-13-23T10:00:00Z", 400, "from"),
        ("/api/v1/requests?to=9999-01-01T00:00:00Z", 400, "to"),
        ("/api/v1/requests?to=1950-01-01T00:00:00Z", 400, "to"),
        ("/api/v1/requests?from=2026-11-23T10:00:01Z&to=2026-11-23T10:00:01Z", 400, "from"),
        ("/api/v1/requests?tag=red", 400, "tag"),
        ("/api/v1/requests?tag=:red", 400, "tag"),
        ("/api/v1/requests?min_duration=fast", 400, "min_duration"),
        ("/api/v1/requests?service=", 400, "service"),
        ("/api/v1/requests/xyz", 400, "trace_id"),
        (f"/api/v1/requests/{TRACE.upper()}", 400, "trace_id"),
        (f"/api/v1/requests/{TRACE}?span_id=1", 400, "span_id"),
        (f"/api/v1/requests/{TRACE}?rank=1", 400, "rank"),
        (f"/api/v1/requests/{TRACE}?since=1m", 400, "since"),
        (f"/api/v1/requests/{'a' * 32}", 404, None),
        (f"/api/v1/requests/{TRACE}?span_id={'a' * 16}", 404, None),
        (f"/api/v1/traces/{'a' * 32}", 404, None),
        ("/api/v1/traces/a", 400, "trace_id"),
        (f"/api/v1/traces/{TRACE}?x=1", 400, "x"),
        ("/api/v1/causes?x=1", 400, "x"),
        ("/api/v1/services?x=1", 400, "x"),
        ("/api/v1/nothing", 404, None),
        ("/nothing", 404, None),
    ],
)
def test_what_is_not_asked_plainly(client: FlaskClient, path: str, status: int, field: str | None) -> None:
    """Unknown and malformed parameters are 400 and named; unknown things are 404; all in one shape."""
    is_problem(client.get(path), status, field)


def test_other_methods(client: FlaskClient) -> None:
    """405 has the same shape and says what is allowed."""
    answer = client.delete("/api/v1/requests")
    is_problem(answer, 405)
    assert "GET" in answer.headers["Allow"]


def test_our_own_failure(client: FlaskClient, correlator: FakeCorrelator, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 has the same shape and tells nothing of the inside."""
    monkeypatch.setattr(correlator, "services", lambda: 1 / 0)
    answer = client.get("/api/v1/services")
    is_problem(answer, 500)
    assert "division" not in answer.text


def test_a_store_that_is_not_ready(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """readyz is 503 while questions cannot be answered; healthz stays 200."""
    correlator.is_ready = False
    is_problem(client.get("/readyz"), 503)
    assert client.get("/healthz").status_code == 200


def test_a_window_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """since counts back from now; from and to are RFC 3339 with any zone, to the nanosecond, half-open."""
    hour_ns = 3600 * 10**9
    monkeypatch.setattr("layerline_api.parameters.time.time_ns", lambda: START_NS)

    def window(**arguments: str) -> tuple[int, int]:
        query = read(VerdictParameters, MultiDict({name.rstrip("_"): text for name, text in arguments.items()})).query()
        return query.from_ns, query.to_ns

    now = START_NS + 1
    assert window() == (now - hour_ns // 4, now)
    assert window(since="1h") == (now - hour_ns, now)
    assert window(since="100000d") == (0, now)
    assert window(from_="2026-11-23T10:00:00.123456789Z") == (START_NS, now)
    assert window(from_="2026-11-23T09:00:00z", to="2026-11-23T11:00:00.123456789+01:00") == (
        START_NS - hour_ns - 123_456_789,
        START_NS,
    )
    assert window(to="2026-11-23t10:00:00.123456789-00:00") == (START_NS - hour_ns // 4, START_NS)


def test_filters_arrive(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """Every filter reaches the correlator as what it means."""
    client.get(
        "/api/v1/requests?service=web&operation=GET%20/cart&tag=image:web:1.2&tag=region:abc&min_duration=1.5s"
        "&order=duration&limit=7&cursor=2"
    )
    asked = correlator.asked[-1]
    assert (asked.service, asked.operation) == ("web", "GET /cart")
    assert asked.tags == (("image", "web:1.2"), ("region", "abc"))
    assert (asked.min_duration_ns, asked.order, asked.limit, asked.cursor) == (1_500_000_000, "duration", 7, "2")


@given(some.dictionaries(some.sampled_from(
    ["since", "from", "to", "service", "operation", "tag", "min_duration", "order", "limit", "cursor", "rank"]),
    some.text(max_size=30)))  # fmt: skip
def test_any_query_string_is_a_question_or_a_problem(arguments: dict[str, str]) -> None:
    """Whatever the parameters say, the answer is a query or a 400."""
    try:
        query = read(VerdictParameters, MultiDict(arguments)).query()
    except Problem as problem:
        said = problem
    else:
        assert 0 <= query.from_ns < query.to_ns < 2**63
        return
    assert said.status == 400
    assert said.field in arguments


def test_ranked_by_what_was_lost(client: FlaskClient) -> None:
    """rank=lost asks for the ranking without usual; the ledger is the same."""
    body = client.get(f"/api/v1/requests/{TRACE}?rank=lost").json
    assert body["ranked_by"] == "lost"
    assert sum(part["lost_ns"] for part in body["parts"]) + body["unexplained_ns"] == body["duration_ns"]


# ---- who may ask


@pytest.mark.parametrize("path", ["/", "/readyz", "/api/v1/requests", f"/requests/{TRACE}", "/map", "/nothing"])
def test_with_a_token_everything_but_healthz_asks_for_it(correlator: FakeCorrelator, path: str) -> None:
    """401 without the token or with a wrong one, before anything else is looked at."""
    client = create_app(correlator, ServerSettings(token=TOKEN, loopback_only=False)).test_client()
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer é"}):
        answer = client.get(path, headers=headers)
        is_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 404)
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:4318", 200), ("127.0.0.1:4318", 200), ("[::1]:4318", 200), ("[::1]", 200),
        ("evil.example", 403), ("evil.example:4318", 403), ("127.0.0.1.evil.example", 403), ("localhost:x:y", 403),
    ],
)  # fmt: skip
def test_on_loopback_only_our_own_names_are_served(correlator: FakeCorrelator, host: str, status: int) -> None:
    """A page of somebody else's whose name points here is refused (DNS rebinding)."""
    client = create_app(correlator).test_client()
    assert client.get("/api/v1/requests", headers={"Host": host}).status_code == status


def test_with_a_token_any_name_is_served(correlator: FakeCorrelator) -> None:
    """Beyond loopback the token is the guard; the server does not know its own names."""
    client = create_app(correlator, ServerSettings(token=TOKEN, loopback_only=False)).test_client()
    answer = client.get("/readyz", headers={"Host": "layerline.example", "Authorization": f"bearer {TOKEN}"})
    assert answer.status_code == 200
