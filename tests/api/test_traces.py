"""A trace on the page and at a terminal: a tree that says what failed, and shows what spans carry when asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from api_fake import SPAN, TRACE, WEB, FakeCorrelator, full, verdict, window_verdict
from flask.testing import FlaskClient
from live_server import Live

from layerline_api.app import create_app
from layerline_api.commands.traces import main
from layerline_api.terminal import verdicts as terminal
from layerline_api.terminal.traces import lines_of_trace
from layerline_api.words import verdicts as words
from layerline_api.words.traces import MOST, tell
from layerline_correlator.plain import plain
from layerline_correlator.verdict.model import Against, Failure

EVIL = "<script>alert(1)</script>\x1b[2J"
START = "2026-11-23T10:00:00.{:09d}Z"


def span(span_id: str, parent: str | None = None, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "span_id": span_id, "parent_span_id": parent, "service": "web", "name": f"op {span_id}", "kind": "server",
        "start": START.format(at_ms * 1_000_000), "duration_ns": 5_000_000, "status": "unset", "attributes": {},
        "exception": None, "status_message": None, "events": [], "links": [], "trace_state": None, "left_out": None,
    } | more  # fmt: skip


def log(body: str, **more: Any) -> dict[str, Any]:
    return {
        "time": START.format(7_000_000), "severity": 17, "severity_text": "ERROR", "body": body, "attributes": {},
        "service": "web", "span_id": None, "container_id": None, "host": None, "tied_by": "trace", "left_out": None,
    } | more  # fmt: skip


STACK = "Traceback (most recent call last):\n  File \"shop.py\", line 3, in cart\nKeyError: 'cart'"
SHOWN: dict[str, Any] = {
    "trace_id": TRACE,
    "spans": [
        span("a", status="error", exception={"type": "KeyError", "message": "'cart'"}, attributes={"http.route": "/c"},
             events=[{"time": START.format(2_000_000), "name": "exception",
                      "attributes": {"exception.type": "KeyError", "exception.stacktrace": STACK}}],
             links=[{"trace_id": "b" * 32, "span_id": SPAN, "attributes": {}}],
             left_out={"attributes": 3, "events": 1, "links": 0, "shortened": 2}),
        span("b", "a", 2, exception={"type": "ValueError", "message": "caught"}),
        span("c", "a", 1, status="error"),
    ],
    "segments": [],
    "logs": [log("no cart"), log(EVIL, severity=13, tied_by="container", attributes={"a": EVIL})],
    "logs_left_out": 4,
}  # fmt: skip


def lines(trace: dict[str, Any], *, attributes: bool = False) -> str:
    return "\n".join(line.plain.rstrip() for line in lines_of_trace(tell(trace), attributes=attributes))


def test_the_tree_says_what_failed() -> None:
    """Children stand below their parent in order of time; an exception that was handled is told as such."""
    text = lines(SHOWN)
    assert [line.split()[-3] for line in text.splitlines() if "op " in line] == ["a", "c", "b"]
    assert "    KeyError: 'cart'" in text
    assert "handled: ValueError: caught" in text
    assert "10:00:00.007 ERROR web: no cart" in text
    assert "(of the same container, at that time)" in " ".join(text.split())
    assert "and 4 more log records" in text
    assert "http.route" not in text
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_what_spans_carry_is_shown_when_asked() -> None:
    """Attributes, the stack trace line by line, links, and what is not kept."""
    text = lines(SHOWN, attributes=True)
    assert "http.route = /c" in text
    assert '        File "shop.py", line 3, in cart' in text
    assert f"linked to layerline trace {'b' * 32}" in text
    assert "not kept: 3 attributes, 1 event; values that were shortened: 2" in text


@pytest.mark.parametrize(
    ("spans", "depths"),
    [
        ([span("a", "a")], [0]),
        ([span("a", "b"), span("b", "a")], [0, 1]),
        ([span("a", "gone"), span("b", "a", 1)], [0, 1]),
        ([span("a", kind="client"), span("a", at_ms=1), span("b", "a", 2)], [0, 1, 2]),
        ([span(str(n), str(n - 1) if n else None, n) for n in range(2_000)], None),
        ([], []),
    ],
)
def test_every_span_is_shown_once(spans: list[dict[str, Any]], depths: list[int] | None) -> None:
    """Rings, orphans, shared ids and chains of thousands are trees too."""
    story = tell({"trace_id": TRACE, "spans": spans})
    if depths is None:
        assert (len(story.spans), story.more_spans) == (MOST, 2_000 - MOST)
    else:
        assert [one.depth for one in story.spans] == depths


@pytest.fixture
def correlator() -> FakeCorrelator:
    correlator = full()
    correlator.traces = {TRACE: SHOWN}
    return correlator


@pytest.fixture
def client(correlator: FakeCorrelator) -> FlaskClient:
    return create_app(correlator).test_client()


def test_the_page_unfolds(client: FlaskClient) -> None:
    """The trace's page and the request's have the spans with their exception, and what they carry behind a click."""
    for address in (f"/traces/{TRACE}", f"/requests/{TRACE}"):
        text = client.get(address).text
        assert "KeyError: &#39;cart&#39;" in text
        assert "<details" in text
        assert "http.route" in text
        assert "no cart" in text
        assert "<script>alert" not in text
        assert f"/traces/{'b' * 32}" in text
    assert client.get(f"/traces/{'a' * 32}").status_code == 404


def test_the_command_shows_a_trace(correlator: FakeCorrelator, live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """`layerline trace` prints the tree, with --json the API's body, and says which trace there is not."""
    url = live(correlator)
    assert main([TRACE, "--server", url]) == 0
    assert "KeyError: 'cart'" in capsys.readouterr().out
    assert main([TRACE, "--attributes", "--server", url]) == 0
    assert "http.route = /c" in capsys.readouterr().out
    assert main([TRACE, "--json", "--server", url]) == 0
    assert json.loads(capsys.readouterr().out) == SHOWN
    assert main(["a" * 32, "--server", url]) == 1
    assert "there is no trace" in capsys.readouterr().err


# ---- what failed, in words

FAILURE = Failure(
    type="KeyError", message="'cart'", status_code="HTTP 500", status_of="web", service="web", span="GET /cart",
    span_id=SPAN, dependency=False, entity=WEB, services=["web"], said_by="exception",
    because="KeyError: 'cart' (HTTP 500) in web", requests=1,
)  # fmt: skip
BEFORE = Against("2026-11-23T09:45:00Z", "2026-11-23T10:00:00Z", 400, 2, 50, 90)


def told(one: Any) -> words.Story:
    return words.tell(plain(one), full().causes())


def test_a_request_that_failed_says_so_before_it_speaks_of_time(
    client: FlaskClient, correlator: FakeCorrelator
) -> None:
    """The line below its name is the error; then how long it took."""
    failed = replace(verdict(), failures=[FAILURE], against=BEFORE)
    out = [line.plain for line in terminal.request(told(failed))]
    assert out[1:4] == [
        "Failed: KeyError: 'cart' (HTTP 500) in web.",
        "Of the 400 requests of this operation before it 2 failed.",
        "took 700 ms, usually 150 ms: 550 ms too slow",
    ]
    correlator.known[TRACE, None] = failed
    text = client.get(f"/requests/{TRACE}").text
    assert text.index("Failed: KeyError") < text.index("took 700 ms")


def test_an_operation_that_fails_says_how_often() -> None:
    """Now, before, and each kind of failure with its count; without slow requests no time is blamed."""
    failures = [replace(FAILURE, requests=30, before=2), replace(FAILURE, because="HTTP 503 in web", requests=7)]
    failing = replace(
        window_verdict(), failures=failures, errors=37, requests=100, slow=0, judged=37, against=BEFORE, culprits=[]
    )
    out = "\n".join(line.plain for line in terminal.window([told(failing)]))
    assert "37 of 100 requests failed (37 %), before 2 of 400." in out
    assert "30 × KeyError: 'cart' (HTTP 500) in web, before 2." in out
    assert "7 × HTTP 503 in web." in out
    assert "none was slow" in out
    assert "No time is to blame" in out
    assert out.index("requests failed") < out.index("none was slow")
    assert told(window_verdict()).failed == ()
