"""The page: escaped, self-contained, and what an investigation starts with."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from api_fake import SPAN, TRACE, FakeCorrelator, full, item, part, verdict

from layerline_api.app import create_app
from layerline_correlator.query import Blind, Culprit, Entity

EVIL = "<script>alert(1)</script>\"'>{{7*7}}"


class Tags(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_list_names_cause_and_leads_to_the_request() -> None:
    """The first page shows the slow requests with their cause, each a link to its ledger."""
    html = create_app(full()).test_client().get("/").text
    assert "held back by its CPU limit" in html
    assert f'href="/requests/{TRACE}?span_id={SPAN}"' in html
    assert "700 ms" in html


def test_a_request_shows_its_ledger() -> None:
    """The request's page says the answer, draws the ledger and lists its parts."""
    html = create_app(full()).test_client().get(f"/requests/{TRACE}?span_id={SPAN}").text
    assert "Mostly container stock-1: held back by its CPU limit, 400 ms (73 % of the excess)." in html
    widths = [float(tag[1]["width"] or 0) for tag in Tags(html).seen if tag[0] == "rect"]
    assert sum(widths) == pytest.approx(1000, abs=0.1)


def test_an_empty_page_says_why() -> None:
    """Nothing slow: the reason, not an empty table."""
    html = create_app(FakeCorrelator()).test_client().get("/").text
    assert "no request was slow in the window" in html
    assert "<table" not in html


def test_names_from_outside_are_text() -> None:
    """Scripts in services, operations, entities, causes and reasons are shown, not run."""
    entity = Entity("container", EVIL, EVIL)
    evil = replace(
        verdict(),
        service=EVIL,
        operation=EVIL,
        start=EVIL,
        parts=[replace(part(EVIL, entity=entity, service=EVIL), layer=EVIL, because=EVIL, try_=EVIL)],
        culprits=[Culprit(EVIL, entity, 0.7, 1)],
        blind=[Blind(EVIL, EVIL, EVIL)],
    )
    correlator = FakeCorrelator(
        items=[replace(item(), service=EVIL, operation=EVIL, cause=EVIL, start=EVIL)], known={(TRACE, None): evil}
    )
    client = create_app(correlator).test_client()
    for path in ("/", f"/requests/{TRACE}"):
        html = client.get(path).text
        tags = Tags(html).seen
        assert not [tag for tag, _ in tags if tag == "script"]
        assert "49" not in html.replace(TRACE, "")
        assert all(not name.startswith("on") for _, attributes in tags for name in attributes)


@pytest.mark.parametrize("path", ["/", f"/requests/{TRACE}", "/api/v1/requests", "/nothing", "/style.css"])
def test_nothing_is_loaded_from_elsewhere(path: str) -> None:
    """The policy allows this server's style sheet and nothing else; the page asks for nothing else."""
    answer = create_app(full()).test_client().get(path)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "http" not in answer.text.replace("http-equiv", "") or answer.content_type != "text/html; charset=utf-8"
    assert " style=" not in answer.text


def test_pages_fail_in_the_one_shape() -> None:
    """An unknown request and an unknown parameter are problems here too."""
    client = create_app(full()).test_client()
    for path, status in ((f"/requests/{'a' * 32}", 404), ("/requests/x", 400), ("/?x=1", 400)):
        answer = client.get(path)
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
