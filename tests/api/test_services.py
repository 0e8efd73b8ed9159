"""What is asked of services over HTTP: the overview, one of them, and what some of its requests have in common."""

from __future__ import annotations

import pytest
from api_fake import full
from flask.testing import FlaskClient

from layerline_api.app import create_app


@pytest.fixture
def client() -> FlaskClient:
    return create_app(full()).test_client()


def test_the_overview_has_a_row_for_each_service(client: FlaskClient) -> None:
    """Each service with its requests and where their time went, and slow requests in groups with an example."""
    body = client.get("/api/v1/overview?since=1h").json
    assert body is not None
    row = body["items"][0]
    assert row["service"]
    assert row["requests"] > 0
    assert body["slow"][0]["examples"]


def test_one_service_is_told_over_time(client: FlaskClient) -> None:
    """The service that was asked for; without a name there is nothing to tell."""
    body = client.get("/api/v1/service?service=web&since=1h").json
    assert body is not None
    assert body["service"] == "web"
    refused = client.get("/api/v1/service?since=1h")
    assert (refused.status_code, (refused.json or {})["field"]) == (400, "service")


def test_picked_requests_are_compared_with_the_others(client: FlaskClient) -> None:
    """How many were picked of how many, and what they have in common."""
    body = client.get("/api/v1/shares?service=web&since=1h&min_duration=500ms").json
    assert body is not None
    assert body["picked"] > 0
    refused = client.get("/api/v1/shares?since=1h&min_duration=long")
    assert (refused.status_code, (refused.json or {})["field"]) == (400, "min_duration")
