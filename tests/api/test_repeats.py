"""What is asked again is not worked out again: ETag and 304, where the answer follows from what is stored alone."""

from __future__ import annotations

from typing import Any

import pytest
from api_fake import FakeCorrelator
from flask.testing import FlaskClient

from layerline_api.app import create_app

WINDOW = "from=2026-11-23T10:00:00Z&to=2026-11-23T11:00:00Z"


class Stored(FakeCorrelator):
    """Says which state it is in."""

    states = ("one",)  # the first is said first, the last for ever

    def generation(self) -> str | None:
        now, *later = self.states
        self.states = tuple(later) or self.states
        return now or None


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def client(stored: Stored) -> FlaskClient:
    return create_app(stored).test_client()


def ask(client: FlaskClient, path: str, tag: str | None = None) -> Any:
    return client.get(path, headers={} if tag is None else {"If-None-Match": tag})


@pytest.mark.parametrize("path", [f"/api/v1/requests?{WINDOW}", f"/api/v1/services?{WINDOW}"])
def test_what_is_asked_again_is_not_worked_out_again(stored: Stored, client: FlaskClient, path: str) -> None:
    """While nothing is written, 304 without a body; once something was, 200 with another ETag."""
    first = ask(client, path)
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "private, no-cache")
    again = ask(client, path, first.headers["ETag"])
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    stored.states = ("two",)
    other = ask(client, path, first.headers["ETag"])
    assert (other.status_code, other.data) == (200, first.data)
    assert other.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/requests",
        "/api/v1/requests?since=1h",
        "/api/v1/requests?from=2026-11-23T10:00:00Z",
        "/api/v1/requests?from=2026-11-23T10:00:00Z&to=2200-01-01T00:00:00Z",
        f"/api/v1/verdicts?{WINDOW}",
        "/api/v1/slos",
    ],
)
def test_what_depends_on_the_clock_has_no_etag(client: FlaskClient, path: str) -> None:
    """The last 15 minutes are others each time, and a verdict settles by itself: these are answered anew."""
    answer = ask(client, path)
    assert answer.status_code == 200
    assert "ETag" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert ask(client, path, "*").status_code == 200


def test_an_answer_is_kept_only_where_nothing_was_written_meanwhile(stored: Stored, client: FlaskClient) -> None:
    """What was written just now, or while it was being answered, leaves an answer without an ETag."""
    path = f"/api/v1/requests?{WINDOW}"
    for states in (("",), ("one", "two"), ("one", ""), ("", "one")):
        stored.states = states
        answer = ask(client, path)
        assert answer.status_code == 200
        assert "ETag" not in answer.headers, states


def test_each_question_has_its_own(client: FlaskClient) -> None:
    """The ETag of one question is that of no other, and a question that is wrong has none."""
    asked = [f"/api/v1/requests?{WINDOW}", f"/api/v1/requests?{WINDOW}&limit=1", f"/api/v1/services?{WINDOW}"]
    tags = {ask(client, path).headers["ETag"] for path in asked}
    assert len(tags) == 3
    for path in asked:
        assert sum(ask(client, path, tag).status_code == 304 for tag in tags) == 1
    wrong = ask(client, f"/api/v1/requests?{WINDOW}&limit=0")
    assert (wrong.status_code, "ETag" in wrong.headers) == (400, False)
