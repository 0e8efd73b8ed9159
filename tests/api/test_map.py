"""The map: who calls whom, laid out in layers, bounded, with ongoing incidents in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from api_fake import MS, FakeCorrelator
from hypothesis import given, settings
from hypothesis import strategies as some
from test_page import DOCUMENT, Tags

from layerline_api.app import create_app
from layerline_api.page.graph import layered
from layerline_correlator.questions.services import Edge, ServiceItem, ServiceMap
from profiles import examples


@dataclass
class Called(FakeCorrelator):
    """Answers with these calls."""

    edges: list[Edge] = field(default_factory=list)

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        names = dict.fromkeys(
            name
            for edge in self.edges
            for name in (edge.caller, edge.callee if edge.callee_type == "service" else edge.caller)
        )
        return ServiceMap([ServiceItem(name, 10, 1, 20 * MS, 90 * MS) for name in names], self.edges)


def call(caller: str, callee: str, kind: str = "service", calls: int = 90) -> Edge:
    return Edge(caller, kind, callee, calls, 9, 10 * MS, 50 * MS)


def test_calls_are_drawn_with_their_figures() -> None:
    """Each service is a link, each call says rate, p95 and errors, and what was seen from outside is dashed."""
    edges = [call("web", "stock"), call("stock", "prices:8000", "dependency")]
    html = create_app(Called(edges=edges)).test_client().get("/map?since=15m").text
    links = [of["href"] for tag, of in Tags(html).seen if str(of.get("href")).startswith("/service?")]
    assert sorted(map(str, links)) == ["/service?service=stock&since=15m", "/service?service=web&since=15m"]
    assert html.count("6 /min · 50 ms · 10 %") == 2
    assert html.count('class="node outside"') == 1
    assert "web calls stock: 6 /min · 50 ms p95, 10 % failed" in html


def test_an_ongoing_incident_is_drawn_in() -> None:
    """Services of the incident, and calls between them, are marked in colour and in words."""
    correlator = Called(edges=[call("web", "stock"), call("web", "mail")])
    correlator.incidents.documents.append({**DOCUMENT, "state": "open", "services": ["web", "stock"]})
    html = create_app(correlator).test_client().get("/map").text
    assert html.count('class="node alarm"') == 2
    assert html.count('class="call alarm"') == 1
    assert f'href="/incidents/{DOCUMENT["id"]}"' in html
    assert "stock: in an ongoing incident" in html


def test_many_services_are_bounded() -> None:
    """Of 5,000 services some are drawn, the others counted; with a service, it and its neighbours are."""
    edges = [call(f"s{number}", f"s{number + 1}", calls=10_000 - number) for number in range(5_000)]
    client = create_app(Called(edges=edges)).test_client()
    html = client.get("/map").text
    assert html.count("<g class=") == 40
    assert "And 4,961 more" in html
    assert len(html) < 1_000_000
    beside = client.get("/map?service=s4000").text
    assert beside.count("<g class=") == 3


def test_without_calls_it_says_why() -> None:
    """Nothing received: a sentence, no picture."""
    html = create_app(FakeCorrelator()).test_client().get("/map").text
    assert "no request was received in this window" in html
    assert "<svg class=" not in html


@given(some.lists(some.tuples(some.integers(0, 9), some.integers(0, 9)), max_size=40))
@settings(max_examples=examples(50, 1000), deadline=None)
def test_a_layout_keeps_callers_left_and_nodes_apart(calls: list[tuple[int, int]]) -> None:
    """Whatever calls whom, circles included: no two nodes share a place, every call has a line, most lead right."""
    nodes = list(range(10))
    places, lines = layered(nodes, calls)
    assert set(places) == set(nodes)
    assert len(set(places.values())) == len(nodes)
    wanted = {(caller, callee) for caller, callee in calls if caller != callee}
    assert set(lines) == wanted
    for (caller, callee), rows in lines.items():
        if places[callee][0] > places[caller][0] and len(rows) > 2:
            assert len(rows) == places[callee][0] - places[caller][0] + 1
    # Without circles all of them lead right.
    ordered = [(min(one), max(one)) for one in wanted]
    places, _ = layered(nodes, ordered)
    assert all(places[caller][0] < places[callee][0] for caller, callee in ordered)


def test_names_on_the_map_are_text() -> None:
    """A service named as a script is shown, cut, and whole on hover."""
    evil = "<script>alert(1)</script>" * 400
    html = create_app(Called(edges=[replace(call("web", "x"), callee=evil)])).test_client().get("/map").text
    assert "<script>alert" not in html
    assert len(html) < 100_000
