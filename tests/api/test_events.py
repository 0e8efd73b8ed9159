"""Changes told from outside: our own shape, GitHub's and Argo CD's, and the command."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_fake import TOKEN, FakeCorrelator
from flask.testing import FlaskClient
from live_server import Live

from layerline_api.app import create_app
from layerline_api.commands.events import main
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

TIME = "2026-11-23T10:00:00.5Z"
WINDOW = "?from=2026-11-23T09:00:00Z&to=2026-11-23T11:00:00Z"

REPOSITORY = {"id": 1, "name": "shop", "full_name": "acme/shop", "html_url": "https://github.com/acme/shop"}
SENDER = {"login": "octocat", "id": 1}
DEPLOYMENT = {
    "id": 145988746, "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e", "ref": "v1.5", "task": "deploy", "payload": {},
    "environment": "production", "description": None, "created_at": "2026-11-23T09:59:00Z",
}  # fmt: skip


def github_status(state: str = "success") -> dict[str, Any]:
    """What GitHub sends as `deployment_status`, less the fields that do not matter."""
    status = {
        "id": 209916254, "state": state, "description": "", "environment": "production", "target_url": "",
        "created_at": "2026-11-23T10:00:00Z",
    }  # fmt: skip
    return {
        "action": "created", "deployment_status": status, "deployment": DEPLOYMENT, "repository": REPOSITORY,
        "sender": SENDER,
    }  # fmt: skip


def argo(phase: str = "Succeeded") -> dict[str, Any]:
    """What Argo CD sends for `{"app": {{toJson .app}}}`, less the fields that do not matter."""
    operation = {
        "phase": phase, "startedAt": "2026-11-23T09:59:30Z", "message": "",
        "syncResult": {"revision": "f95f852", "source": {"repoURL": "https://github.com/acme/shop"}},
    }  # fmt: skip
    if phase != "Running":
        operation["finishedAt"] = "2026-11-23T10:00:00Z"
    return {
        "app": {
            "metadata": {"name": "shop-web", "namespace": "argocd"},
            "spec": {"project": "default"},
            "status": {"operationState": operation, "sync": {"status": "Synced", "revision": "f95f852"}},
        }
    }


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    yield opened
    opened.close()


@pytest.fixture
def client(correlator: Correlator) -> FlaskClient:
    return create_app(correlator).test_client()


def listed(client: FlaskClient, more: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/api/v1/events{WINDOW}{more}").json["items"]
    return items


def test_a_marker_of_our_own_is_kept(client: FlaskClient) -> None:
    """What is told is listed as it was told, with the service as its entity; numbers become text."""
    marker = {"body": "deployed web 1.5", "time": TIME, "attributes": {"service.name": "web", "service.version": 1.5}}
    told = client.post("/api/v1/events", json=marker)
    assert told.status_code == 200
    assert (
        listed(client)
        == [
            {
                "time": "2026-11-23T10:00:00.500000000Z",
                "name": "deployment",
                "body": "deployed web 1.5",
                "attributes": {"service.name": "web", "service.version": "1.5"},
                "entity": {"type": "service", "id": "web", "name": "web"},
            }
        ]
        == [told.json["event"]]
    )


def test_told_twice_it_counts_once(client: FlaskClient) -> None:
    """The same marker with the same time is one event; another time, another event."""
    for time in (TIME, TIME, "2026-11-23T10:00:01Z"):
        client.post("/api/v1/events", json={"body": "deployed web 1.5", "time": time})
    for _ in range(2):
        client.post("/api/v1/events", json=github_status())
    assert [item["time"][11:19] for item in listed(client)] == ["10:00:01", "10:00:00", "10:00:00"]


def test_without_a_time_it_is_now(client: FlaskClient) -> None:
    """A marker without a time happened when it came; the default window shows it."""
    client.post("/api/v1/events", json={"body": "deployed web 1.5"})
    assert [item["body"] for item in client.get("/api/v1/events").json["items"]] == ["deployed web 1.5"]


def test_nothing_is_guessed_from_the_text(client: FlaskClient) -> None:
    """A service and a version that only the text names are not made attributes."""
    client.post("/api/v1/events", json={"body": "deployed web 1.5", "time": TIME})
    assert (listed(client)[0]["attributes"], listed(client)[0]["entity"]) == ({}, None)


@pytest.mark.parametrize(
    ("sent", "name", "time", "body"),
    [
        (github_status(), "deployment", "10:00:00", "deployed acme/shop v1.5 to production"),
        (github_status("failure"), "deployment.failed", "10:00:00", "failed to deploy acme/shop v1.5 to production"),
        (
            {"action": "created", "deployment": DEPLOYMENT, "repository": REPOSITORY, "sender": SENDER},
            "deployment.started", "09:59:00", "deploy of acme/shop v1.5 to production",
        ),
        (
            {
                "action": "published", "repository": REPOSITORY, "sender": SENDER,
                "release": {"id": 1, "tag_name": "v1.5", "name": None, "published_at": "2026-11-23T10:00:00Z"},
            },
            "release", "10:00:00", "released acme/shop v1.5",
        ),
        (argo(), "deployment", "10:00:00", "synced shop-web f95f852"),
        (argo("Failed"), "deployment.failed", "10:00:00", "failed to sync shop-web f95f852"),
        (argo("Running"), "deployment.started", "09:59:30", "sync of shop-web f95f852"),
    ],
)  # fmt: skip
def test_others_are_understood(client: FlaskClient, sent: Any, name: str, time: str, body: str) -> None:
    """What GitHub and Argo CD send becomes an event with their time; the service is what the webhook's URL says."""
    assert client.post("/api/v1/events?service=web", json=sent).status_code == 200
    found = listed(client, "&service=web")
    assert [(item["name"], item["time"][11:19], item["body"]) for item in found] == [(name, time, body)]
    assert found[0]["attributes"]["service.name"] == "web"


def test_a_deploy_of_github_says_what_was_deployed(client: FlaskClient) -> None:
    """Repository, ref, commit and environment are attributes, by OpenTelemetry's names."""
    client.post("/api/v1/events", json=github_status())
    assert listed(client)[0]["attributes"] == {
        "deployment.id": "145988746",
        "deployment.environment.name": "production",
        "deployment.status": "succeeded",
        "vcs.repository.name": "acme/shop",
        "vcs.repository.url.full": "https://github.com/acme/shop",
        "vcs.ref.head.name": "v1.5",
        "vcs.ref.head.revision": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
    }


@pytest.mark.parametrize(
    "sent",
    [
        {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {}, "repository": REPOSITORY, "sender": SENDER},
        {"action": "opened", "issue": {}, "repository": REPOSITORY, "sender": SENDER},
        github_status("in_progress"),
        {"action": "created", "release": {"tag_name": "v2", "published_at": None}, "repository": REPOSITORY},
        argo("Terminating"),
    ],
)
def test_what_is_no_change_is_taken_and_not_kept(client: FlaskClient, sent: Any) -> None:
    """A ping, an issue, a deploy that still runs: 200, so that nobody sends it again, and the reason."""
    answer = client.post("/api/v1/events", json=sent)
    assert (answer.status_code, answer.json["event"]) == (200, None)
    assert answer.json["ignored"]
    assert listed(client) == []


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "body"),
        ({"body": "x", "time": "yesterday"}, "time"),
        ({"body": "x", "time": 5}, "time"),
        ({"body": "x", "text": "x"}, "text"),
        ({"body": "x", "name": ""}, "name"),
        ({"body": "x", "attributes": {"a": None}}, "attributes.a"),
        ({"repository": REPOSITORY, "deployment": {}}, "deployment.id"),
        ({"app": {}}, "app.metadata"),
        (["x"], None),
        ("x", None),
        (5, None),
    ],
)
def test_what_is_not_understood_is_named(sent: Any, field: str | None) -> None:
    """A body that is none of the shapes is a 400 that says what is wrong with it."""
    answer = create_app(FakeCorrelator()).test_client().post("/api/v1/events", json=sent)
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert answer.json.get("field") == field


@pytest.mark.parametrize("sent", [b"", b"{", b'{"body": "\\ud800"}', b'{"a": ' * 5000, b"\xff"])
def test_what_is_no_json_is_refused(sent: bytes) -> None:
    """Broken, endless and surprising JSON is a 400; another type is a 415; what is too long is a 413."""
    client = create_app(FakeCorrelator()).test_client()
    path, kind = "/api/v1/events", "application/json"
    assert client.post(path, data=sent, content_type=kind).status_code == 400
    assert client.post(path, data=sent, content_type="text/plain").status_code == 415
    assert client.post(path, data=b" " * (2**20 + 1), content_type=kind).status_code == 413


def test_a_store_that_is_full() -> None:
    """What cannot be stored now is a 503 with Retry-After, so that the sender tries again."""
    answer = (
        create_app(FakeCorrelator(overloaded=True))
        .test_client()
        .post("/api/v1/events", json={"body": "x", "time": TIME})
    )
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_github_signs_with_the_token() -> None:
    """GitHub cannot send a token: its signature of the body is taken for one, on this path only."""
    client = create_app(FakeCorrelator(), ServerSettings(token=TOKEN)).test_client()
    body = json.dumps(github_status()).encode()

    def post(path: str, signature: str) -> int:
        headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
        return client.post(path, data=body, headers=headers).status_code

    right = "sha256=" + hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    assert post("/api/v1/events", right) == 200
    assert post("/api/v1/events?service=web", right) == 200
    assert post("/api/v1/events", "sha256=" + "0" * 64) == 401
    assert post("/api/v1/events", "sha256=é") == 401
    assert post("/api/v1/sql", right) == 401


# ---- the command


def test_the_command_tells(
    live: Live, correlator: Correlator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options become attributes, tags by the words of a filter; what was stored is printed."""
    monkeypatch.setenv("LAYERLINE_SERVER", live(correlator))
    arguments = ["deployed web 1.5", "--service", "web", "--version", "1.5", "--time", TIME, "--tag", "region:abc"]
    for _ in range(2):
        assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == ["2026-11-23T10:00:00.500000000Z deployment deployed web 1.5"] * 2
    client = create_app(correlator).test_client()
    assert [item["attributes"] for item in listed(client, "&tag=region:abc")] == [
        {"service.name": "web", "service.version": "1.5", "cloud.region": "abc"}
    ]


def test_the_command_without_options(
    live: Live, correlator: Correlator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a text: it happened now, to whom is not said. --json prints the API's answer."""
    monkeypatch.setenv("LAYERLINE_SERVER", live(correlator))
    assert main(["config changed", "--name", "config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event"]["attributes"] == {}
    found = create_app(correlator).test_client().get("/api/v1/events?name=config").json["items"]
    assert [item["body"] for item in found] == ["config changed"]


def test_the_command_says_what_is_wrong(live: Live, capsys: pytest.CaptureFixture[str], free_port: int) -> None:
    """A time that is none, a tag that is none, a server that is not there: exit code 2 and one line."""
    where = live(FakeCorrelator())
    assert main(["x", "--time", "yesterday", "--server", where]) == 2
    assert "expected a time with its zone" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main(["x", "--tag", "region", "--server", where])
    assert refused.value.code == 2
    assert main(["x", "--server", f"http://127.0.0.1:{free_port}"]) == 2
