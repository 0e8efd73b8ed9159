"""The page: escaped, self-contained, and what an investigation starts with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from api_fake import SPAN, TRACE, FakeCorrelator, full, item, part, verdict

from layerline_api.app import create_app
from layerline_correlator.entity import Entity
from layerline_correlator.questions.timeline import Event, IncidentMark, Series, Timeline, TimelineQuery
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import Compared, ContainerItem, Containers, NotMeasured, NotMeasuredItem
from layerline_correlator.tagquery.model import Query, Tag
from layerline_correlator.tagquery.parse import parse
from layerline_correlator.verdict.model import Blind, Culprit

EVIL = "<script>alert(1)</script>\"'>{{7*7}}"
DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "golden/incident.json").read_text(encoding="utf-8"))
ID = DOCUMENT["id"]
BEGIN, END = "2026-11-23T10:00:00.000000000Z", "2026-11-23T10:00:04.000000000Z"


@dataclass
class Shown(FakeCorrelator):
    """Answers with one timeline and one container, whose names are all ``name``, and remembers what it was asked."""

    name: str = "stock-1"
    trouble: Exception | None = None
    timelines: list[TimelineQuery] = field(default_factory=list)
    queries: list[tuple[Query, int]] = field(default_factory=list)

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        self.timelines.append(query)
        if self.trouble is not None:
            raise self.trouble
        if query.trace_id == "a" * 32:
            return None
        name, of = self.name, Entity("container", self.name, self.name)
        readings = Series("container", "readings", name, "level", name, of, {name: name}, [1, None, 2, 3])
        causes = Series("app", "causes", name, "rate", "s/s", None, {}, [0.1, None, 0.2, 0.3])
        event, mark = Event(BEGIN, name, name, of, {}), IncidentMark(name, BEGIN, None, [name], name, name)
        return Timeline(BEGIN, END, 10**9, 4, None, name, name, [causes, readings], [event], [mark])

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        self.queries.append((query, to_ns))
        if self.trouble is not None:
            raise self.trouble
        name, of = self.name, Entity("container", self.name, self.name)
        compared = Compared(name, "By", ">", 2048.0, 1024.0, 1024.0, 2.0)
        one = ContainerItem(of, of, name, [name], BEGIN, END, True, 2048.0, 1024.0, 2.0, [compared], None)
        unknown = NotMeasured(1, [NotMeasuredItem(of, None, name, name)])
        return Containers([one], None, None, unknown, BEGIN, END)


def shown(**more: Any) -> Shown:
    """One slow request, one incident, one timeline, one container."""
    filled = full()
    correlator = Shown(items=filled.items, known=filled.known, **more)
    correlator.incidents.documents.append(DOCUMENT)
    return correlator


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
    """The request's page says the answer, draws the ledger and below it the usual on one scale, and lists its parts."""
    html = create_app(full()).test_client().get(f"/requests/{TRACE}?span_id={SPAN}").text
    assert "Mostly container stock-1: held back by its CPU limit, 400 ms (73 % of the excess)." in html
    bars = re.findall(r'<svg class="ledger".*?</svg>', html, re.DOTALL)
    widths = [sum(map(float, re.findall(r' width="([\d.]+)"', bar))) for bar in bars]
    assert widths == [pytest.approx(1000, abs=0.1), pytest.approx(1000 * 150 / 700, abs=0.1)]


def test_an_empty_page_says_why() -> None:
    """Nothing slow, no incident: the reasons, not empty tables; nothing received: how to begin."""
    html = create_app(FakeCorrelator()).test_client().get("/").text
    assert "no request was slow in the window" in html
    assert "no operation was in trouble" in html
    assert "layerline run -- CMD" in html
    assert "<table" not in html


def test_incidents_come_first_and_open_ones_before_all() -> None:
    """The first page asks for open incidents, then for those that are over, of a day, and leads to their pages."""
    correlator = shown()
    html = create_app(correlator).test_client().get("/").text
    assert [query.state for query in correlator.incidents.asked] == ["open", "ended"]
    assert all(query.to_ns - query.from_ns >= 24 * 3600 * 10**9 for query in correlator.incidents.asked)
    assert html.index(f'href="/incidents/{ID}"') < html.index(f'href="/requests/{TRACE}')
    assert "83 of 153" in html


def test_an_incident_says_all_that_is_known_of_it() -> None:
    """What, since when, why, what changed, the first signs, what would be without it, how far it reaches."""
    html = create_app(shown()).test_client().get(f"/incidents/{ID}").text
    for said in (
        "container stock-2 held back by its CPU limit (95 % of the excess)",
        "2026-11-25 04:10:10 to 2026-11-25 04:11:18 UTC",
        "container.cpu.limit is 0.2, was 2.0",
        "fits the cause",
        "04:10:10, at once",
        "p95 at least 65 ms instead of 363 ms",
        "only container stock-2",
        "100 % of what web lost was lost in stock",
        "Raise the CPU limit",
        '<pre class="command">docker update --cpus N stock-2</pre>',
        "the starts and ends of containers was not measured",
        f"/api/v1/incidents/{ID}/bundle",
    ):
        assert said in html, said


def test_an_incident_is_pictured_at_the_same_steps_as_its_timeline() -> None:
    """The timeline beside an incident is asked for the incident's own window, step and outermost operation."""
    correlator = shown()
    create_app(correlator).test_client().get(f"/incidents/{ID}")
    (asked,) = correlator.timelines
    excess = DOCUMENT["excess"]
    assert asked.step_ns == excess["step_ns"]
    assert asked.from_ns is not None
    assert asked.to_ns is not None
    assert asked.to_ns - asked.from_ns == excess["step_ns"] * len(excess["requests"])
    assert (asked.service, asked.operation) == ("web", "GET /cart")


def test_an_incident_outlives_its_data() -> None:
    """Where the store cannot give the readings any more, the page shows the rest and says what is missing."""
    html = create_app(shown(trouble=TooHeavy("it took longer than 10 s"))).test_client().get(f"/incidents/{ID}").text
    assert "excess by cause and entity" in html
    assert "Not shown: it took longer than 10 s" in html


def test_the_query_box_asks_as_the_api_is_asked() -> None:
    """Tags, service, operation and window reach requests, timeline and containers; empty fields say nothing."""
    correlator = shown()
    client = create_app(correlator).test_client()
    window = "from=2026-11-23T10:00:00Z&to=2026-11-23T11:00:00Z"
    client.get(f"/?q=image:web&service=web&operation=&since=15m&{window}")
    of_changes, asked = correlator.asked
    assert (of_changes.tags, of_changes.service, of_changes.from_ns) == (asked.tags, asked.service, asked.from_ns)
    assert (str(asked.tags), asked.service, asked.operation) == ("(Tag(key='image', value='web'),)", "web", None)
    assert asked.to_ns - asked.from_ns == 3600 * 10**9
    assert [query.service for query in correlator.incidents.asked] == ["web", "web"]
    client.get("/timeline?q=image:web&entity=container:a&since=1h&from=&to=")
    (timeline,) = correlator.timelines
    assert (str(timeline.tags), timeline.entity) == ("(Tag(key='image', value='web'),)", ("container", "a"))
    client.get(f"/containers?q=image:web&{window}")
    client.get(f"/containers?q=image:web over 2h&{window}")
    assert [query.over_ns for query, _ in correlator.queries] == [3600 * 10**9, 7200 * 10**9]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/?q=image:web (host:a", 400, "(column 18)"),
        ("/timeline?q=memry", 400, "  memry\n"),
        ("/containers?q=memry > 1", 400, "there is no signal"),
        ("/?since=soon", 400, "since is"),
        ("/?from=yesterday", 400, "from is"),
        ("/timeline?entity=pod:a", 400, "entity is"),
        (f"/timeline?trace_id={'a' * 32}", 404, "there is no request"),
        (f"/timeline?trace_id={TRACE}&service=web", 400, "service is given beside trace_id"),
        ("/timeline?q=image:web cpu.time > 1s", 400, 'href="/containers?q=image%3Aweb+cpu.time+%3E+1s"'),
    ],
)
def test_what_is_wrong_stands_beside_the_box(path: str, status: int, said: str) -> None:
    """A query, window or entity that is none is told on the page, which keeps what was written."""
    answer = create_app(shown()).test_client().get(path)
    assert (answer.status_code, answer.content_type) == (status, "text/html; charset=utf-8")
    assert said in answer.text
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize("path", ["/timeline", "/containers?q=image:web"])
def test_a_question_that_is_too_heavy_says_what_to_narrow(path: str) -> None:
    """A question that was cut off is answered with a page that says so."""
    answer = create_app(shown(trouble=TooHeavy("it took longer than 10 s"))).test_client().get(path)
    assert answer.status_code == 400
    assert "it took longer than 10 s; ask" in answer.text


def test_what_is_asked_for_goes_along() -> None:
    """The links at the top keep the tags and the window, so that one looks at the same in another way."""
    html = create_app(shown()).test_client().get("/?q=image:web&since=1h").text
    assert 'href="/timeline?q=image%3Aweb&amp;since=1h"' in html


def test_a_service_is_a_tag_of_containers() -> None:
    """The link to the containers asks for those of the service, whatever its name is; a query can read it."""
    name = 'we"b \\ 1'
    html = create_app(shown()).test_client().get("/", query_string={"service": name, "operation": "GET /"}).text
    (link,) = [str(of["href"]) for tag, of in Tags(html).seen if str(of.get("href")).startswith("/containers")]
    (text,) = parse_qs(urlsplit(link).query)["q"]
    assert parse(text).selection == Tag("service", name)


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
    correlator = Shown(
        items=[replace(item(), service=EVIL, operation=EVIL, cause=EVIL, start=EVIL)],
        known={(TRACE, None): evil},
        name=EVIL,
    )
    correlator.incidents.documents.append(_hostile(DOCUMENT))
    client = create_app(correlator).test_client()
    paths = ("/", "/timeline", "/containers", f"/requests/{TRACE}", f"/incidents/{ID}")
    for path in (*paths, *(f"{path}?q={EVIL}&service={EVIL}&from={EVIL}" for path in paths[:3])):
        answer = client.get(path)
        assert answer.status_code in (200, 400), path
        html = answer.text
        tags = Tags(html).seen
        assert [
            of["src"]
            for tag, of in tags
            if tag == "script" and not re.match(r"/(complete|page|lanes)\.js\?|/vendor/", str(of["src"]))
        ] == []
        assert "49" not in re.sub(r"\?v=\w+", "", html.replace(TRACE, ""))  # nor in what tells versions of a file apart
        assert all(not name.startswith("on") for _, attributes in tags for name in attributes)


def _hostile(value: Any, name: str = "") -> Any:
    """The document with every name that comes from outside, and every sentence made of them, replaced."""
    if isinstance(value, dict):
        return {key: _hostile(of, key) for key, of in value.items()}
    if isinstance(value, list):
        return [_hostile(of, name) for of in value]
    ours = ("id", "state", "start", "end", "noticed", "at", "type", "ranked_by", "evidence", "examples")
    return value if not isinstance(value, str) or name in ours else EVIL


@pytest.mark.parametrize(
    "path",
    [
        "/", "/timeline", "/containers?q=image:*", f"/requests/{TRACE}", f"/incidents/{ID}", "/api/v1/requests",
        "/nothing", "/style.css", "/complete.js", "/icon.svg",
    ],
)  # fmt: skip
def test_nothing_is_loaded_from_elsewhere(path: str) -> None:
    """The policy allows this server's style sheet and script and nothing else; the page asks for nothing else."""
    answer = create_app(shown()).test_client().get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "http" not in answer.text.replace("http-equiv", "") or answer.content_type != "text/html; charset=utf-8"
    assert " style=" not in answer.text


def test_pages_fail_in_the_one_shape() -> None:
    """An unknown request and an unknown parameter are problems here too."""
    client = create_app(full()).test_client()
    for path, status in (
        (f"/requests/{'a' * 32}", 404),
        ("/requests/x", 400),
        ("/?x=1", 400),
        (f"/incidents/{'0' * 12}", 404),
        ("/incidents/x", 400),
        ("/timeline?step=1s", 400),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
