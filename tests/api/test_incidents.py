"""Incidents over HTTP and at the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api_fake import CAUSES, FakeCorrelator
from flask.testing import FlaskClient
from live_server import Live

from layerline_api.app import create_app
from layerline_api.commands.incidents import main
from layerline_api.declared import BODY_LIMIT_BYTES
from layerline_api.terminal.incidents import lines_of_incident, lines_of_list

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "golden/incident.json").read_text(encoding="utf-8"))


@pytest.fixture
def fake() -> FakeCorrelator:
    correlator = FakeCorrelator()
    correlator.incidents.documents.append(DOCUMENT)
    return correlator


@pytest.fixture
def client(fake: FakeCorrelator) -> FlaskClient:
    return create_app(fake).test_client()


def test_an_incident_is_answered_as_it_was_told(client: FlaskClient) -> None:
    """The list and the single incident are the documents of the correlator, unchanged."""
    listed = client.get("/api/v1/incidents?since=1h").get_json()
    assert listed == {"items": [DOCUMENT], "next": None, "reason": None}
    assert client.get(f"/api/v1/incidents/{DOCUMENT['id']}").get_json() == DOCUMENT


def test_a_bundle_is_one_file(client: FlaskClient) -> None:
    """The bundle comes as a zip with a name; that of an unknown incident is a 404."""
    answer = client.get(f"/api/v1/incidents/{DOCUMENT['id']}/bundle")
    assert (answer.status_code, answer.content_type, answer.data) == (200, "application/zip", b"bundle")
    assert DOCUMENT["id"] in answer.headers["Content-Disposition"]
    assert client.get(f"/api/v1/incidents/{'0' * 12}/bundle").status_code == 404


def test_filters_reach_the_correlator(client: FlaskClient, fake: FakeCorrelator) -> None:
    """Window, state, service, operation, cause and limit are asked as given."""
    query = "from=2026-11-25T00:00:00Z&to=2026-11-25T01:00:00Z&state=open&service=web&operation=GET /&cause=app.blocked"
    client.get(f"/api/v1/incidents?{query}&limit=3")
    (asked,) = fake.incidents.asked
    assert asked.to_ns - asked.from_ns == 3600 * 10**9
    assert (asked.state, asked.service, asked.operation, asked.cause, asked.limit) == (
        "open",
        "web",
        "GET /",
        "app.blocked",
        3,
    )


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("?state=closed", 400, "state"),
        ("?cause=", 400, "cause"),
        ("?cursor=x", 400, "cursor"),
        ("?limit=0", 400, "limit"),
        ("?since=soon", 400, "since"),
        ("?nonsense=1", 400, "nonsense"),
        ("/nonsense", 400, "incident"),
        ("/" + "0" * 12, 404, None),
    ],
)
def test_bad_questions_name_what_is_wrong(client: FlaskClient, path: str, status: int, field: str | None) -> None:
    """Whatever is not said plainly is a 400 that names the field; an unknown id is a 404."""
    answer = client.get(f"/api/v1/incidents{path}")
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json().get("field") == field


def test_the_story_says_what_since_when_why_what_changed_and_what_to_do() -> None:
    """Somebody who was woken reads the answer first, and every line fits into a terminal."""
    told = [line.plain for line in lines_of_incident(DOCUMENT, CAUSES)]
    text = "\n".join(told)
    assert all(len(line) <= 80 for line in told)
    for part in (
        "over, it took",
        "is slow" if DOCUMENT["state"] == "open" else "was slow",
        "held back by its CPU limit",
        "without “held back by its CPU limit”: p95 at least",
        "its evidence 60 ms to 92 ms",
        "→ 1.2 s before",
        "container stock-2: container.cpu.limit is 0.2, was 2.0",
        "only container stock-2",
        "what to do",
        "layerline why ",
    ):
        assert part in text, text


def test_a_list_names_each_incident_and_how_to_see_it() -> None:
    """Two or three lines for each, and the command for more."""
    text = "\n".join(line.plain for line in lines_of_list([DOCUMENT], is_all=True))
    assert DOCUMENT["id"] in text
    assert f"layerline incidents {DOCUMENT['id']}" in text


def test_names_from_outside_cannot_act_on_a_terminal() -> None:
    """Escape sequences in names come out as replacement characters."""
    hostile = json.loads(json.dumps(DOCUMENT).replace("GET /cart", "GET \\u001b[2J"))
    assert "\x1b" not in "\n".join(line.plain for line in lines_of_incident(hostile, CAUSES))


def test_slos_are_set_listed_and_removed(client: FlaskClient) -> None:
    """What is posted is listed until it is removed; the same promise is the same SLO."""
    assert "no SLO" in client.get("/api/v1/slos").get_json()["reason"]
    body = {"service": "web", "operation": "GET /cart", "objective": 0.99, "threshold": "300ms"}
    made = client.post("/api/v1/slos", json=body)
    assert made.status_code == 201
    assert made.get_json()["threshold_ns"] == 300_000_000
    assert [slo["id"] for slo in client.get("/api/v1/slos").get_json()["items"]] == [made.get_json()["id"]]
    assert client.delete(f"/api/v1/slos/{made.get_json()['id']}").status_code == 204
    assert client.delete(f"/api/v1/slos/{made.get_json()['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ("nonsense", 400, None),
        ("[]", 400, None),
        ("{}", 400, "service"),
        ('{"service": "web"}', 400, "objective"),
        ('{"service": "web", "objective": 1}', 400, "objective"),
        ('{"service": "web", "objective": true}', 400, "objective"),
        ('{"service": "web", "objective": 0.9, "operation": 3}', 400, "operation"),
        ('{"service": "web", "objective": 0.9, "threshold": "fast"}', 400, "threshold"),
        ('{"service": "web", "objective": 0.9, "threshold": 300}', 400, "threshold"),
        ('{"service": "web", "objective": 0.9, "window": "30d"}', 400, "window"),
        ('{"service": "web", "objective": NaN}', 400, "objective"),
        (" " * (BODY_LIMIT_BYTES + 1), 413, None),
    ],
)
def test_an_slo_that_is_none_is_refused(client: FlaskClient, body: str, status: int, field: str | None) -> None:
    """A body that is not an SLO is a 4xx that names the field."""
    answer = client.post("/api/v1/slos", data=body, content_type="application/json")
    assert answer.status_code == status
    assert answer.get_json().get("field") == field


def test_the_command_asks_for_a_list_one_and_a_bundle(
    live: Live, fake: FakeCorrelator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list, one incident with its JSON unchanged, a bundle as a file; with nothing to list it ends with 1."""
    where = ["--server", live(fake)]
    assert main(["--service", "web", *where]) == 0
    assert fake.incidents.asked[-1].service == "web"
    assert f"see one: layerline incidents {DOCUMENT['id']}" in capsys.readouterr().out
    assert main([DOCUMENT["id"], "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT
    assert main([DOCUMENT["id"], *where]) == 0
    assert DOCUMENT["summary"][:20] in capsys.readouterr().out
    assert main([DOCUMENT["id"], "--bundle", str(tmp_path / "file.zip"), *where]) == 0
    assert (tmp_path / "file.zip").read_bytes() == b"bundle"
    fake.incidents.documents.clear()
    assert main(where) == 1
    assert "no operation was in trouble" in capsys.readouterr().err


def test_an_incident_of_errors_is_told_by_its_errors() -> None:
    """How requests failed stands under "why", in place of culprits; page and command say the same."""
    failures = [{"because": "KeyError: 'cart' in stock", "requests": 48, "before": 2}]
    document = DOCUMENT | {"kind": "errors", "cause": None, "failures": failures, "first_signs": [], "excess": None}
    text = "\n".join(line.plain for line in lines_of_incident(document, CAUSES))
    assert "48 × KeyError: 'cart' in stock, 2 in the 15 minutes before" in text
    assert "%  " not in text.partition("why")[2].partition("what changed")[0]
    fake = FakeCorrelator()
    fake.incidents.documents.append(document)
    page = create_app(fake).test_client().get(f"/incidents/{DOCUMENT['id']}").text
    assert "48 × KeyError: &#39;cart&#39; in stock, 2 in the 15 minutes before" in page


def test_what_changed_between_services_is_told_with_how_sure_it_is() -> None:
    """Each edge says how much longer its calls take and on which side that passed; what is not sure is perhaps so."""
    edge = {
        "caller": "web", "callee_type": "service", "callee": "stock", "operation": "GET /stock", "calls": 60,
        "errors": 2, "before_calls": 900, "before_errors": 0, "duration_change_ns": 160_000_000,
        "gap_change_ns": 158_000_000, "side": "callee", "sure": False, "because": "calls of others to stock were late",
    }  # fmt: skip
    edges = [edge, edge | {"side": None, "operation": ""}, edge | {"side": "way", "sure": True, "errors": 0}]
    text = " ".join(" ".join(line.plain for line in lines_of_incident(DOCUMENT | {"edges": edges}, CAUSES)).split())
    assert "web to stock (GET /stock): 160 ms a call more, 2 of 60 failed, perhaps at stock: calls of others" in text
    assert "web to stock: 160 ms a call more, 2 of 60 failed, on which side is open:" in text
    assert "web to stock (GET /stock): 160 ms a call more, on the way:" in text
    assert "between services" not in " ".join(line.plain for line in lines_of_incident(DOCUMENT, CAUSES))
