"""Monitors over HTTP: saved, listed, silenced, tried on the past, deleted, and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from api_fake import STOCK, TOKEN, FakeCorrelator
from flask.testing import FlaskClient

from layerline_api.app import create_app
from layerline_api.routes.monitors import MOST
from layerline_api.settings import ServerSettings
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import CannotEvaluate, Evaluation, Finding, Monitor

SECOND = 10**9
QUERY = "image:web memory.working_set > 1GiB over 5m"
NAMED = ServerSettings(notify=("https://hooks.example",))


def source(question: str, at_ns: int) -> Evaluation:
    """It holds in every second ten minutes; a question about stars cannot be asked."""
    if "star" in question:
        raise CannotEvaluate("it took longer than 30 s")
    return Evaluation((Finding(STOCK, {"summary": "it is fat"}),) if at_ns // (600 * SECOND) % 2 else ())


@pytest.fixture
def kept() -> Iterator[Monitors]:
    database = duckdb.connect()
    yield Monitors(database.cursor(), {"query": source})
    database.close()


@pytest.fixture
def client(kept: Monitors) -> FlaskClient:
    correlator = FakeCorrelator()
    correlator.monitors = kept  # type: ignore[attr-defined]
    return create_app(correlator, NAMED).test_client()


def saved(client: FlaskClient, **more: Any) -> Any:
    answer = client.post("/api/v1/monitors", json={"query": QUERY, **more})
    assert answer.status_code == 201, answer.text
    return answer.json


def test_a_monitor_is_saved_and_listed(client: FlaskClient, kept: Monitors) -> None:
    """201 with its place; what was not said has its default; of an address only the host is shown to anybody."""
    target = {"kind": "slack", "url": "https://hooks.example/services/T0/B0/secret"}
    answer = client.post(
        "/api/v1/monitors", json={"name": "fat", "query": QUERY, "for": "2m", "every": "1m", "targets": [target]}
    )
    assert answer.status_code == 201
    where = answer.headers["Location"]
    assert client.get(where).json == {**answer.json, "alerts": []}
    assert (answer.json["name"], answer.json["query"], answer.json["state"]) == ("fat", QUERY, "unknown")
    assert (answer.json["every_ns"], answer.json["for_ns"]) == (60 * SECOND, 120 * SECOND)
    assert answer.json["targets"] == [{"kind": "slack", "url": "https://hooks.example/…"}]
    assert kept.all()[0].targets[0].url.endswith("/secret")
    plain = saved(client)
    assert (plain["name"], plain["every_ns"], plain["for_ns"], plain["targets"]) == (QUERY, 30 * SECOND, 0, [])
    assert [item["id"] for item in client.get("/api/v1/monitors").json["items"]] == [answer.json["id"], plain["id"]]


def test_without_any_the_list_says_so(client: FlaskClient) -> None:
    """An empty list has its reason."""
    assert client.get("/api/v1/monitors").json == {"items": [], "next": None, "reason": "no monitor was saved yet"}


@pytest.mark.parametrize(
    ("body", "name", "question"),
    [
        (
            {"slo": {"service": "web", "operation": None, "objective": 0.99, "threshold": "300ms"}},
            "99 % of web succeed within 300ms",
            {"service": "web", "objective": 0.99, "threshold": "300ms"},
        ),
        (
            {"incidents": {"service": "web", "cause": "app.cpu_busy"}},
            "incidents of web by app.cpu_busy",
            {"service": "web", "cause": "app.cpu_busy"},
        ),
        ({"incidents": {}}, "incidents", {}),
    ],
)
def test_a_monitor_has_another_source(client: FlaskClient, body: Any, name: str, question: Any) -> None:
    """An SLO or incidents in place of the query: listed as it was said, named after what it says."""
    (source,) = body
    answer = client.post("/api/v1/monitors", json=body)
    assert answer.status_code == 201, answer.text
    (item,) = client.get("/api/v1/monitors").json["items"]
    assert (item["source"], item["name"]) == (source, name)
    assert {kind: item[kind] for kind in ("query", "slo", "incidents") if item[kind] is not None} == {source: question}


def test_a_monitor_tells_its_state_and_its_alerts(client: FlaskClient, kept: Monitors) -> None:
    """Open alerts first, then what is over; the state is the worst of the open ones."""
    monitor = saved(client)["id"]
    path = f"/api/v1/monitors/{monitor}"
    for at, state in ((1200, "ok"), (600, "firing"), (1200, "ok")):
        kept.evaluate(monitor, at * SECOND)
        assert client.get(path).json["state"] == state
    (alert,) = client.get(path).json["alerts"]
    assert (alert["state"], alert["fired"], alert["resolved"]) == (
        "resolved", "1970-01-01T00:10:00.000000000Z", "1970-01-01T00:20:00.000000000Z",
    )  # fmt: skip
    assert alert["summary"] == "container stock-1: it is fat"
    kept.evaluate(monitor, 1800 * SECOND)
    assert [alert["state"] for alert in client.get(path).json["alerts"]] == ["firing", "resolved"]


def test_a_monitor_is_silenced_and_spoken_to_again(client: FlaskClient) -> None:
    """Until a time, for a duration, and null ends it."""
    path = f"/api/v1/monitors/{saved(client)['id']}/silence"
    until = client.post(path, json={"until": "2030-01-01T00:00:00+01:00"}).json["silent_until"]
    assert until == "2029-12-31T23:00:00.000000000Z"
    assert client.post(path, json={"for": "2h"}).json["silent_until"] is not None
    assert client.post(path, json={"until": None}).json["silent_until"] is None


def test_a_monitor_is_deleted(client: FlaskClient) -> None:
    """204, and then 404 for everything below it."""
    path = f"/api/v1/monitors/{saved(client)['id']}"
    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == client.get(path).status_code == 404
    assert client.post(f"{path}/silence", json={"for": "2h"}).status_code == 404


def test_a_monitor_is_tried_on_the_past(client: FlaskClient, kept: Monitors) -> None:
    """What would have fired in the last hour, how closely that was looked at, and nothing is saved or told."""
    asked = {"query": QUERY, "for": "2m", "every": "1m", "since": "1h", "to": "2026-11-23T10:00:00Z"}
    body = client.post("/api/v1/monitors/preview", json=asked).json
    assert (body["evaluations"], body["every_ns"]) == (60, 60 * SECOND)
    assert [(alert["fired"][11:16], (alert["resolved"] or "")[11:16]) for alert in body["items"]] == [
        ("09:12", "09:20"), ("09:32", "09:40"), ("09:52", "10:00"),
    ]  # fmt: skip
    assert (kept.all(), kept.open_alerts()) == ([], [])
    never = client.post("/api/v1/monitors/preview", json={**asked, "for": "11m"}).json
    assert (never["items"], never["reason"]) == ([], "it would not have fired")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("", {}, "query"),
        ("", {"query": " "}, "query"),
        ("", {"query": 7}, "query"),
        ("", {"query": "image:web over"}, "query"),
        ("", {"query": QUERY, "name": ""}, "name"),
        ("", {"query": QUERY, "for": "soon"}, "for"),
        ("", {"query": QUERY, "for": 120}, "for"),
        ("", {"query": QUERY, "every": "1s"}, "every"),
        ("", {"query": QUERY, "colour": "red"}, "colour"),
        ("", {"query": QUERY, "targets": "https://hooks.example"}, "targets"),
        ("", {"query": QUERY, "targets": [{"kind": "webhook", "url": "https://hooks.example/x"}] * 11}, "targets"),
        ("", {"query": QUERY, "targets": [{"kind": "pager", "url": "https://hooks.example/x"}]}, "targets.0.kind"),
        ("", {"query": QUERY, "targets": [{"kind": [], "url": "https://hooks.example/x"}]}, "targets.0.kind"),
        ("", {"query": QUERY, "targets": [{"kind": "webhook", "url": 7}]}, "targets.0.url"),
        ("", {"query": QUERY, "targets": [{"kind": "webhook", "url": "http://169.254.169.254/"}]}, "targets.0.url"),
        ("", {"query": QUERY, "targets": [{"kind": "webhook"}]}, "targets.0.url"),
        ("", {"query": QUERY, "targets": [{"kind": "slack", "url": "x", "to": "y"}]}, "targets.0.to"),
        ("", {"query": QUERY, "slo": {"service": "web", "objective": 0.9}}, "slo"),
        ("", {"slo": "web"}, "slo"),
        ("", {"slo": {"objective": 0.99}}, "slo.service"),
        ("", {"slo": {"service": "web", "objective": 99}}, "slo.objective"),
        ("", {"slo": {"service": "web", "objective": 0.99, "threshold": "fast"}}, "slo.threshold"),
        ("", {"incidents": {"service": ""}}, "incidents.service"),
        ("", {"incidents": {"state": "open"}}, "incidents.state"),
        ("", [], None),
        ("/preview", {"query": QUERY, "since": "8d"}, "since"),
        ("/preview", {"query": QUERY, "to": "now"}, "to"),
        ("/preview", {"query": "container:star"}, "since"),
    ],
)
def test_what_is_no_monitor_names_the_field(client: FlaskClient, path: str, body: Any, field: str | None) -> None:
    """400, the field to blame, and nothing is saved."""
    said = client.post(f"/api/v1/monitors{path}", json=body)
    assert (said.status_code, said.content_type) == (400, "application/problem+json")
    assert said.json.get("field") == field
    assert client.get("/api/v1/monitors").json["items"] == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "expected exactly one of query, slo, incidents; found none of them"),
        ({"query": QUERY, "slo": {}}, "expected exactly one of query, slo, incidents; found query and slo"),
        ([], "the body is []; expected an object with query or slo or incidents"),
        ({"query": 7}, "query is 7; expected text such as memory.working_set > 1GiB over 5m"),
        ({"query": QUERY, "name": " "}, "name is ' '; expected text of 1 to 200 characters"),
        ({"query": QUERY, "every": "1s"}, "every is '1s'; expected a duration such as 30s or 2m, 5s to 86400s"),
        ({"query": QUERY, "for": 120}, "for is 120; expected text such as 2m"),
        (
            {"query": QUERY, "colour": "red"},
            "there is no field 'colour' here; there are: name, every, for, targets, query",
        ),
        (
            {"query": QUERY, "targets": [{"kind": "pager", "url": "x"}]},
            "targets.0.kind is \"pager\"; expected 'webhook', 'alertmanager' or 'slack'",
        ),
        ({"slo": {"objective": 0.9}}, "slo.service is missing"),
        ({"slo": {"service": "web", "objective": 99}}, "slo.objective is 99; expected less than 1"),
        (
            {"slo": {"service": "web", "objective": 0.9, "threshold": 300}},
            "slo.threshold is 300; expected a duration such as 300ms",
        ),
        (
            {"incidents": {"state": "open"}},
            "there is no field 'state' in incidents; there are: service, cause",
        ),
    ],
)
def test_what_is_no_monitor_is_said_in_a_sentence(client: FlaskClient, body: Any, detail: str) -> None:
    """What was found, and what was expected instead."""
    assert client.post("/api/v1/monitors", json=body).json["detail"] == detail


@pytest.mark.parametrize("body", [{}, {"until": None, "for": "1h"}, {"until": "tomorrow"}, {"for": "0s"}])
def test_a_silence_has_one_end(client: FlaskClient, body: Any) -> None:
    """until or for, and one that can be understood."""
    assert client.post(f"/api/v1/monitors/{saved(client)['id']}/silence", json=body).status_code == 400


def test_a_page_of_somebody_else_cannot_save_one(client: FlaskClient) -> None:
    """What a form of a foreign page may send without asking first (text/plain) is no JSON: 415."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        said = client.post("/api/v1/monitors", data=f'{{"query": "{QUERY}"}}', content_type=kind)
        assert said.status_code == 415
    assert client.post("/api/v1/monitors", data="{", content_type="application/json").status_code == 400
    huge = client.post("/api/v1/monitors", data=b" " * 100_000, content_type="application/json")
    assert huge.status_code in (400, 413)


def test_with_a_token_it_is_needed(kept: Monitors) -> None:
    """Nothing is saved without it."""
    correlator = FakeCorrelator()
    correlator.monitors = kept  # type: ignore[attr-defined]
    client = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    assert client.post("/api/v1/monitors", json={"query": QUERY}).status_code == 401
    target = [{"kind": "webhook", "url": "https://anywhere.example/x"}]
    with_token = {"Authorization": f"Bearer {TOKEN}"}
    said = client.post("/api/v1/monitors", json={"query": QUERY, "targets": target}, headers=with_token)
    assert said.status_code == 201


def test_there_are_not_too_many(client: FlaskClient, kept: Monitors) -> None:
    """A server has a bounded number of monitors; the next one is a 409."""
    for number in range(MOST):
        kept.save(Monitor(f"m{number}", "x", "query", "image:web", SECOND, 0, ()))
    assert client.post("/api/v1/monitors", json={"query": QUERY}).status_code == 409


def test_what_the_page_of_monitors_shows_can_be_saved(kept: Monitors) -> None:
    """Every body of a command in docs/MONITORS.md is one, to save and to try."""
    page = (Path(__file__).parents[2] / "docs/MONITORS.md").read_text(encoding="utf-8").replace("…", "x")
    bodies = [json.loads(text) for text in re.findall(r"/api/v1/monitors -H .*? -d '(\{.*?\})'\n", page, re.DOTALL)]
    assert {name for body in bodies for name in body} >= {"query", "slo"}
    correlator = FakeCorrelator()
    correlator.monitors = kept  # type: ignore[attr-defined]
    client = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    for body in bodies:
        said = client.post("/api/v1/monitors", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
        assert said.status_code == 201, said.text
