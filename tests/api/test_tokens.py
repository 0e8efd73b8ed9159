"""Tokens that may only write, only read, or both: what each opens, over HTTP and gRPC, and which tags they bind."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest
from api_fake import FakeCorrelator, full, one_span
from flask.testing import FlaskClient
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from layerline_api.app import create_app
from layerline_api.doors.otlp import Malformed, decode
from layerline_api.settings import ServerSettings
from layerline_api.tokens import BadTokens, Token, digest, holder, needed, read_tokens

WRITES, READS, BOTH, ALL = (f"{name}-token-of-a-test" for name in ("writes", "reads", "both", "all"))
FILE = f"""
[[token]]
name = "vm-1"
token = "{WRITES}"
may = "write"
tags = {{zone = "a", rack = "7"}}

[[token]]
name = "grafana"
sha256 = "{digest(READS).hex()}"
may = "read"

[[token]]
name = "people"
token = "{BOTH}"
may = "both"
"""
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """A server with the three tokens of the file, and the one of the variable."""
    file = tmp_path / "tokens.toml"
    file.write_text(FILE)
    return ServerSettings.from_environment({"LAYERLINE_TOKENS": str(file), "LAYERLINE_TOKEN": ALL})


@pytest.fixture
def correlator() -> FakeCorrelator:
    return full()


@pytest.fixture
def client(correlator: FakeCorrelator, settings: ServerSettings) -> FlaskClient:
    return create_app(correlator, settings).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


SPAN = one_span().SerializeToString()


def statuses(client: FlaskClient, token: str) -> tuple[int, int, int, int]:
    """What a token gets for a span, a question, SQL's way of asking, and a change of what the server keeps."""
    headers = bearer(token)
    return (
        client.post("/v1/traces", data=SPAN, headers=headers | PROTOBUF).status_code,
        client.get("/api/v1/requests", headers=headers).status_code,
        client.post("/api/v1/sql", json={"query": "SELECT 1"}, headers=headers).status_code,
        client.post("/api/v1/monitors", json={}, headers=headers).status_code,
    )


def test_each_token_opens_what_it_may(client: FlaskClient) -> None:
    """One that may write sends, one that may read asks, and only one that may do both changes what is kept."""
    allowed = statuses(client, ALL)
    assert allowed[:2] == (200, 200)
    assert 403 not in allowed
    assert statuses(client, BOTH) == allowed
    assert statuses(client, WRITES) == (allowed[0], 403, 403, 403)
    assert statuses(client, READS) == (403, allowed[1], allowed[2], 403)
    assert statuses(client, "no-token-of-this-server") == (401, 401, 401, 401)
    assert client.get("/healthz").status_code == 200


def test_what_is_refused_says_which_token(client: FlaskClient) -> None:
    """The name, never the token."""
    detail = client.get("/api/v1/requests", headers=bearer(WRITES)).get_json()["detail"]
    assert detail == "the token 'vm-1' may not read: this needs one that may"
    assert WRITES not in repr(holder(f"Bearer {WRITES}", [Token.of("x", WRITES)]))


def test_bound_tags_are_on_all_that_is_sent(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """Whatever the sender says of itself: an agent of zone a cannot report as one of zone b."""
    request = one_span()
    request.resource_spans[0].resource.attributes.add(key="cloud.availability_zone").value.string_value = "b"
    assert (
        client.post("/v1/traces", data=request.SerializeToString(), headers=bearer(WRITES) | PROTOBUF).status_code
        == 200
    )
    assert (
        client.post("/v1/traces", data=request.SerializeToString(), headers=bearer(BOTH) | PROTOBUF).status_code == 200
    )
    bound, free = (batch.resources[0].attributes for batch in correlator.batches)
    assert (bound["cloud.availability_zone"], bound["rack"], bound["service.name"]) == ("a", "7", "web")
    assert (free["cloud.availability_zone"], "rack" in free) == ("b", False)
    sent = client.post("/api/v1/events", json={"body": "deployed", "attributes": {"rack": "9"}}, headers=bearer(WRITES))
    assert sent.status_code == 200
    assert correlator.batches[-1].events[0].attributes["rack"] == "7"


def test_tags_are_bound_to_every_signal() -> None:
    """Metrics and logs, in protobuf and JSON; what is no OTLP is refused as ever."""
    metrics, logs = ExportMetricsServiceRequest(), ExportLogsServiceRequest()
    point = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points.add()
    point.time_unix_nano, point.as_int = 10**18, 1
    logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=10**18).body.string_value = "x"
    for signal, request in (("metrics", metrics), ("logs", logs)):
        decoded = decode(signal, request.SerializeToString(), is_json=False, tags={"zone": "a"})
        assert decoded.batch.resources[0].attributes == {"zone": "a"}
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1000000000000000000"}]}]}]})
    assert decode("logs", body.encode(), is_json=True, tags={"zone": "a"}).batch.resources[0].attributes == {
        "zone": "a"
    }
    with pytest.raises(Malformed):
        decode("logs", b"\xff\xff", is_json=False, tags={"zone": "a"})


@pytest.mark.parametrize(("token", "status"), [(BOTH, 200), (WRITES, 200), (READS, 401)])
def test_a_webhook_signs_with_a_token_that_may_write(client: FlaskClient, token: str, status: int) -> None:
    """One that is known as itself, not as its digest only; its tags are bound too."""
    body = json.dumps({"body": "deployed"}).encode()
    signature = "sha256=" + hmac.new(token.encode(), body, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    assert client.post("/api/v1/events", data=body, headers=headers).status_code == status
    assert client.get("/api/v1/events", headers=headers).status_code == 401


def test_what_a_request_needs() -> None:
    """OTLP and events write, questions read, everything else needs both."""
    assert [sorted(needed(*asked)) for asked in (
        ("POST", "/v1/traces"), ("POST", "/api/v1/events"), ("GET", "/api/v1/events"), ("GET", "/metrics"),
        ("POST", "/api/v1/sql"), ("DELETE", "/api/v1/monitors/x"), ("PUT", "/api/v1/slos"),
    )] == [["write"], ["write"], ["read"], ["read"], ["read"], ["read", "write"], ["read", "write"]]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[token]]\nname = 'a'\nmay = 'write'", "token 1 (a): expected either token or sha256"),
        (f"[[token]]\nname = 'a'\ntoken = '{BOTH}'\nmay = 'admin'", "may: expected read, write or both, found 'admin'"),
        (f"[[token]]\nname = 'a'\ntoken = '{BOTH}'\nmaay = 'read'", "found maay"),
        ("[[token]]\nname = 'a'\ntoken = 'short'\nmay = 'read'", "at least 16 characters"),
        ("[[token]]\nname = 'a'\nsha256 = 'abc'\nmay = 'read'", "expected 64 hex digits"),
        (f"[[token]]\nname = ''\ntoken = '{BOTH}'\nmay = 'read'", "expected a name"),
        (f"[[token]]\nname = 'a'\ntoken = '{BOTH}'\nmay = 'read'\ntags = {{a = 1}}", "tags: expected a table of texts"),
        (f"[[token]]\nname = 'b'\ntoken = '{BOTH}'\nmay = 'read'\n" + FILE, "'people' and 'b' are the same"),
        ("token = 'x'", "expected tables [[token]] only"),
        ("[server]", "expected tables [[token]] only, found server"),
        ("[[token]", "expected TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(content: str, said: str, tmp_path: Path) -> None:
    """The file, the token, what was expected and what was found; never the token itself."""
    file = tmp_path / "tokens.toml"
    file.write_text(content)
    with pytest.raises(BadTokens) as problem:
        read_tokens(file)
    assert said in str(problem.value)
    assert str(file) in str(problem.value)
    assert BOTH not in str(problem.value)
    with pytest.raises(BadTokens, match="cannot be read"):
        read_tokens(tmp_path / "missing")
