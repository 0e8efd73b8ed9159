"""Tag queries against a fleet worked out by hand (tag_queries.toml), and whatever else is written into a query."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import SECOND, WINDOW_S, fleet
from hypothesis import given
from hypothesis import strategies as some
from spans import a_while_ago, container_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, resource_key
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery import evaluate
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import BadQuery, Query
from layerline_correlator.tagquery.parse import parse, parse_selection

DRAWN = tomllib.loads(Path(__file__).with_name("tag_queries.toml").read_text(encoding="utf-8"))
GOOD = [pytest.param(query, id=query["must"]) for query in DRAWN["query"] if "finds" in query]
BAD = [pytest.param(query, id=query["must"]) for query in DRAWN["query"] if "error" in query]


@pytest.fixture(scope="module", params=["row by row", "summed up"])
def asked(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A store with the fleet in it: ``asked(text, limit=50, cursor=None, to=900)`` answers.

    Once it reads every value; once minutes are summed up, and every window is long enough to be read from them.
    """
    zero_ns = a_while_ago(WINDOW_S + 60)
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("fleet") / "store", group_ns=1_000_000))
    correlator.append(fleet(DRAWN["host"], DRAWN["container"], zero_ns))
    patch = pytest.MonkeyPatch()
    if request.param == "summed up":
        patch.setattr(evaluate, "LONG_NS", 0)
        correlator.summing.catch_up()

    def ask(text: str, limit: int = 50, cursor: str | None = None, to: float = WINDOW_S) -> Containers:
        return correlator.containers(parse(text), zero_ns + round(to * SECOND), limit, cursor)

    ask.correlator = correlator  # type: ignore[attr-defined]
    yield ask
    patch.undo()
    correlator.close()


@pytest.mark.parametrize("query", GOOD)
def test_a_query_finds_what_was_worked_out_by_hand(query: dict[str, Any], asked: Any) -> None:
    """The containers, what was not measured and the figures are those of the file."""
    answer = asked(query["q"])
    found = [item.entity.name for item in answer.items]
    assert sorted(found) == sorted(query["finds"])
    assert {item.entity.name: item.reason for item in answer.not_measured.items} == query.get("not_measured", {})
    assert answer.not_measured.count == len(answer.not_measured.items)
    for figure in ("value", "group_value", "ratio"):
        if figure in query:
            assert getattr(answer.items[0], figure) == pytest.approx(query[figure])
    if "reason" in query:
        assert answer.reason == query["reason"]
    assert (answer.reason is None) == bool(found)


@pytest.mark.parametrize("query", BAD)
def test_what_is_no_query_says_where(query: dict[str, Any]) -> None:
    """The error says what is wrong, and at which column."""
    with pytest.raises(BadQuery) as wrong:
        parse(query["q"])
    assert query["error"] in wrong.value.detail
    assert wrong.value.column == query["column"]


def test_the_file_has_both_kinds() -> None:
    """At least thirty queries besides the design's own, good and bad."""
    assert len(GOOD) >= 25
    assert len(BAD) >= 10


def test_the_examples_of_the_page_are_queries() -> None:
    """What docs/QUERY.md shows as a query is one."""
    page = (Path(__file__).parents[2] / "docs/QUERY.md").read_text(encoding="utf-8")
    blocks = page.split("```")
    shown = [*re.findall("containers '(.*)'", blocks[1]), *blocks[3].strip().splitlines()]
    assert len(shown) == 5
    for text in shown:
        assert parse(text).comparisons


def test_an_answer_says_how_slow_requests_were_and_who_is_gone(asked: Any) -> None:
    """Beside each container stand its own requests in the window, the part it lived of it, its image and its host."""
    found = {item.entity.name: item for item in asked("image:web OR image:job").items}
    slow = found["web-2"].requests
    assert slow is not None
    assert (slow.count, slow.errors, slow.slow, slow.slow_ratio) == (20, 2, 10, 0.5)
    assert (slow.p50_ns, slow.p95_ns) == (550_000_000, 1_000_000_000)
    assert found["web-4"].requests is not None
    assert (found["web-4"].requests.count, found["web-4"].requests.p95_ns) == (0, None)
    assert found["short-1"].requests is None
    assert {name: item.gone for name, item in found.items()} == {
        "web-1": False, "web-2": False, "web-3": True, "web-4": False, "short-1": True,
    }  # fmt: skip
    assert found["web-3"].entity.id == container_id("web-3")
    assert (found["web-3"].image, found["web-3"].services) == ("web", ["web"])
    assert found["web-3"].host is not None
    assert found["web-3"].host.id == "h1"


def test_a_process_that_knows_only_its_host_name_has_its_containers_tags(correlator: Correlator) -> None:
    """Where the join found the container, its tags and its requests are those of the process, whatever this says."""
    zero_ns = a_while_ago(WINDOW_S + 60)
    correlator.append(fleet(DRAWN["host"], DRAWN["container"], zero_ns))
    attributes = {"service.name": "shop", "host.name": container_id("db-1")[:12]}
    sender = ResourceRow(resource_key(attributes), attributes)
    _, span = span_row({"id": "a", "kind": "server", "ms": [0, 700]}, "ab" * 16, zero_ns + 600 * SECOND)
    correlator.append(Batch(resources=[sender], spans=[span._replace(resource=sender.resource)]))
    (found,) = correlator.containers(parse("service:shop"), zero_ns + WINDOW_S * SECOND, 50).items
    assert (found.entity.name, found.requests and found.requests.count) == ("db-1", 1)
    window = RequestQuery(zero_ns, zero_ns + WINDOW_S * SECOND, tags=(parse_selection("team:payments -image:redis"),))
    assert [item.service for item in correlator.requests(window).items] == ["shop"]


def test_pages_stay_with_the_window_of_the_first(asked: Any) -> None:
    """Page by page the same containers come as in one list, though later pages are asked for later."""
    whole = [item.entity.name for item in asked("memory.working_set > 20MiB").items]
    assert whole == ["web-4", "web-3", "web-2", "short-1", "web-1", "db-1"]
    read, cursor = [], None
    for later in (0, 60, 120):
        page = asked("memory.working_set > 20MiB", 2, cursor, WINDOW_S + later)
        read += [item.entity.name for item in page.items]
        cursor = page.next
    assert read == whole
    assert cursor is None


def test_a_window_without_anything_says_so(asked: Any) -> None:
    """Where no container was seen, that is the reason."""
    assert asked("image:web", to=-7200).reason == "no container was seen in this window"


def test_what_takes_too_long_is_cut_off(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that is too heavy ends with an error that says so, and the next one is answered."""
    monkeypatch.setattr("layerline_correlator.questions.answers.PATIENCE_S", 0.0)

    def again_and_again() -> None:
        for _ in range(100):  # the watcher may be slow to begin
            asked("cpu.time > 2 * p95(cpu.time by zone)")

    with pytest.raises(TooHeavy, match="longer than 0 s"):
        again_and_again()
    monkeypatch.undo()
    assert asked("image:web").items


def test_keys_and_values_are_completed(asked: Any) -> None:
    """Keys come as people say them, our words first; values with how many containers carry them; both limited."""
    correlator = asked.correlator
    keys = [one.key for one in correlator.tag_keys("", 1000)]
    assert {"image", "region", "service", "team", "app.kubernetes.io/part-of", "container.id"} <= set(keys)
    assert keys.index("instance_type") < keys.index("team")
    assert [one.key for one in correlator.tag_keys("te", 10)] == ["team"]
    assert len(correlator.tag_keys("", 3)) == 3
    assert [one.value for one in correlator.tag_values("version", "1", 3)] == ["1", "1.4", "1.5"]
    assert [(one.value, one.containers) for one in correlator.tag_values("team", "", 10)] == [("payments", 2)]
    assert correlator.tag_values("image", "w", 10)[0].value == "web"
    assert correlator.tag_values("none", "", 10) == []


WORDS = [
    "image:web", "-region:abc", "(", ")", "OR", "AND", "where", "by", "over", "15m", "1.5", "*", "+", "-", "avg(",
    "cpu.time", ">", "<", "memory.working_set", '"', ":", "2GB", "zone",
]  # fmt: skip


@given(some.text(max_size=60) | some.lists(some.sampled_from(WORDS)).map(" ".join))
def test_any_text_is_a_query_or_says_where_it_is_not(text: str) -> None:
    """Whatever is written, the answer is a query, or an error with a column in or right after the text."""
    for read in (parse, parse_selection):
        try:
            found: Any = read(text)
        except BadQuery as wrong:
            found = wrong
        if isinstance(found, BadQuery):
            assert 1 <= found.column <= len(text) + 1
            assert found.detail
        else:
            assert not isinstance(found, Query) or found.text == text


def test_deep_nesting_costs_no_stack(asked: Any) -> None:
    """A query of the longest length that is only parentheses and negations is answered."""
    depth = 130
    assert parse("(" * 900 + "image:web" + ")" * 900).selection == ("image", "web")
    names = [item.entity.name for item in asked("-(image:none " * depth + "image:web" + ")" * depth).items]
    assert names
