"""The page: escaped, self-contained, and what an investigation starts with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from api_fake import SPAN, TRACE, FakeCorrelator, full, item, part, verdict, window_verdict
from live_server import Live

from layerline_api.app import create_app
from layerline_api.commands.verdicts import main as why
from layerline_api.parameters import instant_ns
from layerline_correlator.entity import Entity
from layerline_correlator.questions.overview import Overview
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.questions.timeline import Event, IncidentMark, Series, Timeline, TimelineQuery
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import Compared, ContainerItem, Containers, NotMeasured, NotMeasuredItem
from layerline_correlator.tagquery.model import Query, Tag
from layerline_correlator.tagquery.parse import parse
from layerline_correlator.verdict.model import Blind, Culprit

EVIL = "<script>alert(1)</script>\"'>{{7919*7907}}"
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


def test_now_has_a_row_per_service_beside_the_time_before() -> None:
    """A row leads to the service; its bars show where its time goes and went; what takes more is said in words."""
    html = create_app(shown()).test_client().get("/?since=1h").text
    assert 'href="/service?service=web&amp;since=1h"' in html
    assert "container +400 ms" in html
    layers = [of["class"] for tag, of in Tags(html).seen if tag == "rect" and str(of.get("height")) in ("16", "7")]
    assert layers == ["container", "app", "app pale"]
    assert "3 slow" in html
    assert "p99" in html


def test_a_service_is_shown_with_what_its_requests_are() -> None:
    """Heatmap, operations, containers, versions and errors, each leading on; of one operation those of its own."""
    correlator = shown()
    client = create_app(correlator).test_client()
    html = client.get("/service?service=web&since=1h").text
    heat = [of for tag, of in Tags(html).seen if tag == "rect" and str(of.get("class")).startswith("heat")]
    assert [(of["x"], of["y"]) for of in heat] == [("0", "1"), ("2", "1"), ("2", "0")]
    for said in ("Operations", "Containers", "Versions", "How they failed", "What do these have in common?"):
        assert said in html
    assert 'href="/service?service=web&amp;operation=GET+%2Fcart&amp;since=1h"' in html
    (timeline,) = correlator.timelines
    assert (timeline.service, timeline.signals, timeline.step_ns) == ("web", (), 60 * 10**9)
    assert "Operations" not in client.get("/service?service=web&operation=GET /cart").text
    unknown = client.get("/service?service=nobody")
    assert (unknown.status_code, "no request was received" in unknown.text) == (200, True)
    unsaid = client.get("/service")
    assert (unsaid.status_code, "service is missing" in unsaid.text) == (400, True)


def test_what_requests_have_in_common_is_asked_as_the_form_says() -> None:
    """The rectangle's times and durations reach the question, and the answer leads back to the service."""
    correlator = shown()
    window = "from=2026-11-23T10:00:00Z&to=2026-11-23T11:00:00Z"
    html = (
        create_app(correlator)
        .test_client()
        .get(
            f"/shares?service=web&{window}&picked_from=2026-11-23T10:10:00.000Z&picked_to=&min_duration=200ms&max_duration="
        )
        .text
    )
    (picked,) = correlator.picked
    assert (picked.from_ns, picked.to_ns) == (instant_ns("from", "2026-11-23T10:10:00Z"), None)
    assert (picked.least_ns, picked.most_ns) == (200_000_000, None)
    assert "What 3 requests have in common" in html
    assert "that took at least 200 ms" in html
    assert 'href="/service?service=web&amp;from=2026-11-23T10%3A00%3A00Z&amp;to=2026-11-23T11%3A00%3A00Z"' in html


def test_many_services_are_bounded_and_can_be_found() -> None:
    """Of 5,000 services the first are shown, the others counted, and a box finds them by a part of their names."""

    class Many(Shown):
        def overview(self, query: RequestQuery, search: str = "") -> Overview:
            found = super().overview(query, search)
            rows = [replace(found.items[0], service=f"service-{number}" * 50) for number in range(query.limit)]
            return replace(found, items=rows, left_out=5000 - query.limit)

    filled = full()
    client = create_app(Many(items=filled.items, known=filled.known)).test_client()
    for path, shows in (("/", 50), ("/services", 200)):
        html = client.get(path).text
        assert html.count('href="/service?service=service-') == shows
        assert f"and {5000 - shows:,} more services" in html
        assert 'name="search"' in html
        assert len(html) < 3_000_000


def test_what_is_asked_for_goes_along() -> None:
    """The links at the top keep the tags and the window, so that one looks at the same in another way."""
    html = create_app(shown()).test_client().get("/?q=image:web&since=1h").text
    assert 'href="/timeline?q=image%3Aweb&amp;since=1h"' in html


def test_one_moves_through_time_by_links() -> None:
    """Earlier, longer and shorter are links with exact times; from the past one comes back to now, and no further."""
    client = create_app(shown()).test_client()
    steps = [of for tag, of in Tags(client.get("/?service=web&since=1h").text).seen if "data-key" in of]
    assert [of["data-key"] for of in steps] == ["earlier", "wider", "narrower"]
    (query,) = [parse_qs(urlsplit(str(of["href"])).query) for of in steps if of["data-key"] == "earlier"]
    assert query["service"] == ["web"]
    assert instant_ns("to", query["to"][0]) - instant_ns("from", query["from"][0]) == 3600 * 10**9
    past = client.get("/", query_string={name: values[0] for name, values in query.items()}).text
    assert 'data-key="later"' in past
    assert 'href="/?service=web">now</a>' in past
    assert "data-refresh" not in past  # what is over does not change


def test_the_reader_chooses_light_or_dark() -> None:
    """A cookie keeps the choice; anything else in it says nothing, and without one the system decides."""
    client = create_app(shown()).test_client()
    assert '<html lang="en">' in client.get("/").text
    for said, shows in (("dark", 'data-theme="dark"'), ('"><script>', '<html lang="en">')):
        client.set_cookie("layerline_theme", said)
        assert shows in client.get("/").text


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
    paths = (
        "/",
        "/timeline",
        "/containers",
        "/services",
        "/incidents",
        "/requests",
        f"/requests/{TRACE}",
        f"/incidents/{ID}",
    )
    of_one = [f"{path}?{urlencode({'service': EVIL})}" for path in ("/service", "/shares")]
    for path in (*paths, *of_one, *(f"{path}?q={EVIL}&service={EVIL}&from={EVIL}" for path in paths[:6])):
        answer = client.get(path)
        assert answer.status_code in (200, 400), path
        html = answer.text
        tags = Tags(html).seen
        assert [
            of["src"]
            for tag, of in tags
            if tag == "script" and not re.match(r"/(complete|page|heatmap|lanes)\.js\?|/vendor/", str(of["src"]))
        ] == []
        assert "62615533" not in html  # a template in a name is not filled in
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
        "/", "/timeline", "/services", "/service?service=web", "/shares", "/incidents", "/requests",
        "/containers?q=image:*", f"/requests/{TRACE}", f"/incidents/{ID}", "/api/v1/requests",
        "/nothing", "/style.css", "/complete.js", "/page.js", "/heatmap.js", "/icon.svg",
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


def test_incidents_and_requests_have_lists_of_their_own() -> None:
    """Both are in the menu; each row leads to its page, order and state are links, and the API is asked the same."""
    correlator = shown()
    client = create_app(correlator).test_client()
    listed = client.get("/incidents?service=web").text
    assert f'href="/incidents/{ID}"' in listed
    assert "83 of 153" in listed
    (asked,) = correlator.incidents.asked
    assert (asked.service, asked.state) == ("web", None)
    assert asked.to_ns - asked.from_ns == 24 * 3600 * 10**9
    assert 'href="/incidents?service=web&amp;since=24h&amp;state=open"' in listed
    client.get("/incidents?state=ended&since=1h")
    assert (correlator.incidents.asked[-1].state, "None: " in client.get("/incidents?since=1h").text) == (
        "ended",
        False,
    )
    html = client.get("/requests?service=web&order=duration&min_duration=400ms").text
    assert f'href="/requests/{TRACE}?span_id={SPAN}"' in html
    assert "Requests of at least 400 ms" in html.replace("400ms", "400 ms")
    assert (correlator.asked[-1].order, correlator.asked[-1].min_duration_ns) == ("duration", 400_000_000)
    for path in ("/incidents", "/requests"):
        empty = create_app(FakeCorrelator()).test_client().get(path)
        assert (empty.status_code, "None: " in empty.text) == (200, True)
        assert f'href="{path}"' in client.get("/").text


def test_an_incident_is_copied_numbered_and_held_against_what_looks_alike() -> None:
    """Commands and text can be copied; signs are numbered in the picture; look-alikes are ruled out, or not and why."""
    html = create_app(shown()).test_client().get(f"/incidents/{ID}").text
    of = [attributes for _, attributes in Tags(html).seen if "data-copy" in attributes]
    assert [one["data-text"] for one in of if one["data-copy"] == "this"] == ["docker update --cpus N stock-2"]
    assert [one["data-from"] for one in of if one["data-copy"] == "text"] == [f"/why/incidents/{ID}"]
    assert 'aria-label="1: container: held back by its CPU limit, container stock-2, at once. "' in html
    (row,) = re.findall(r"<tr>(?:(?!<tr>).)*host.cpu_contended</code>.*?</tr>", html, re.DOTALL)
    assert "it took no time: there was nothing of it in what was measured" in row


@pytest.mark.parametrize(
    ("path", "argv"),
    [(f"/why/{TRACE}", [TRACE]), ("/why", []), ("/why?service=web", ["--service", "web"])],
)
def test_what_is_copied_is_what_the_command_prints(
    path: str, argv: list[str], live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text for a chat is the terminal's, without its colours."""
    correlator = full()
    correlator.over_window.append(window_verdict())
    url = live(correlator)
    assert why([*argv, "--server", url]) == 0
    copied = create_app(correlator).test_client().get(path)
    assert copied.content_type == "text/plain; charset=utf-8"
    assert copied.text == "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())


def test_where_nothing_changed_the_copied_text_says_so() -> None:
    """A chat gets the reason, not an empty message; what is not there is a 404."""
    client = create_app(FakeCorrelator()).test_client()
    assert client.get("/why").text.strip() != ""
    for path in (f"/why/{'a' * 32}", f"/why/incidents/{'0' * 12}"):
        assert client.get(path).status_code == 404
