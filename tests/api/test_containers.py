"""Tag queries over HTTP and `layerline containers`: what they answer, print and refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from api_fake import STOCK, WEB, FakeCorrelator
from flask.testing import FlaskClient
from live_server import Live
from rich.cells import cell_len

from layerline_api.app import create_app
from layerline_api.commands.containers import main
from layerline_api.words.amounts import amount
from layerline_api.words.queries import pointed
from layerline_correlator.entity import Entity
from layerline_correlator.questions.paging import BadCursor
from layerline_correlator.questions.tags import TagKey, TagValue
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import (
    Compared,
    ContainerItem,
    Containers,
    NotMeasured,
    NotMeasuredItem,
    Served,
)
from layerline_correlator.tagquery.model import Query

QUERY = "image:web memory.working_set > 1.5 * avg(memory.working_set where region:abc)"
MIB = 2**20


def answer() -> Containers:
    """One dead container that uses too much, and one that was not measured."""
    return Containers(
        items=[
            ContainerItem(
                entity=STOCK,
                host=Entity("host", "b" * 36, "vm-1"),
                image="shop/stock",
                services=["stock"],
                from_="2026-11-23T10:00:00.000000000Z",
                to="2026-11-23T10:04:10.000000000Z",
                gone=True,
                value=812.0 * MIB,
                group_value=421.0 * MIB,
                ratio=812 / 421,
                comparisons=[
                    Compared("memory.working_set", "By", ">", 812.0 * MIB, 631.5 * MIB, 421.0 * MIB, 812 / 421),
                    Compared("cpu.time", "ns/s", ">", 0.7e9, 0.5e9, None, None),
                ],
                requests=Served(1200, 3, 144, 0.12, 40_000_000, 810_000_000),
            )
        ],
        next=None,
        reason=None,
        not_measured=NotMeasured(
            1, [NotMeasuredItem(WEB, False, "memory.working_set", "not measured: there is no reading of it")]
        ),
        from_="2026-11-23T10:00:00.000000000Z",
        to="2026-11-23T10:15:00.000000000Z",
    )


@dataclass
class Tagged(FakeCorrelator):
    """Answers tag queries with what it was given."""

    containers_of: Containers = field(default_factory=answer)
    heavy: bool = False
    queries: list[tuple[Query, int, int, str | None]] = field(default_factory=list)

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        self.queries.append((query, to_ns, limit, cursor))
        if self.heavy:
            raise TooHeavy("it took longer than 30 s")
        if cursor not in (None, "2"):
            raise BadCursor(cursor)
        return self.containers_of

    def tag_keys(self, prefix: str, limit: int) -> list[TagKey]:
        return [key for key in (TagKey("image", 2), TagKey("region", 1)) if key.key.startswith(prefix)][:limit]

    def tag_values(self, key: str, prefix: str, limit: int) -> list[TagValue]:
        return [TagValue(f"{key}=1", 2)] if key != "none" else []


@pytest.fixture
def correlator() -> Tagged:
    return Tagged()


@pytest.fixture
def client(correlator: Tagged) -> FlaskClient:
    return create_app(correlator).test_client()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAYERLINE_SERVER", "LAYERLINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_a_query_is_answered_in_json(client: FlaskClient, correlator: Tagged) -> None:
    """The body is the answer, with the window; query, end, limit and cursor reach the correlator."""
    asked = {"q": QUERY + " over 1h", "to": "2026-11-23T10:15:00Z", "limit": "7", "cursor": "2"}
    body = client.get("/api/v1/containers", query_string=asked).json
    assert body["items"][0]["entity"]["name"] == "stock-1"
    assert (body["from"], body["to"]) == ("2026-11-23T10:00:00.000000000Z", "2026-11-23T10:15:00.000000000Z")
    assert body["items"][0]["from"] == body["from"]
    assert body["not_measured"]["count"] == 1
    query, to_ns, limit, cursor = correlator.queries[-1]
    assert (query.text, query.over_ns, to_ns, limit, cursor) == (
        QUERY + " over 1h", 3600 * 10**9, 1_795_428_900 * 10**9, 7, "2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "field", "column"),
    [
        ({"q": "image:web foo"}, "q", 14),
        ({"q": "image:web memry.usage > 1"}, "q", 11),
        ({"q": ""}, "q", 1),
        ({}, "q", 1),
        ({"q": "image:web", "to": "now"}, "to", None),
        ({"q": "image:web", "limit": "0"}, "limit", None),
        ({"q": "image:web", "cursor": "x"}, "cursor", None),
        ({"q": "image:web", "since": "5m"}, "since", None),
    ],
)
def test_a_bad_question_names_the_field_and_the_column(
    client: FlaskClient, asked: dict[str, str], field: str, column: int | None
) -> None:
    """400 with the field to blame; of a query also the column, in the detail and as a member."""
    said = client.get("/api/v1/containers", query_string=asked)
    assert said.status_code == 400
    assert said.content_type == "application/problem+json"
    assert (said.json["field"], said.json.get("column")) == (field, column)
    assert column is None or said.json["detail"].endswith(f"(column {column})")


def test_a_query_that_is_too_heavy_says_what_to_narrow(client: FlaskClient, correlator: Tagged) -> None:
    """What was cut off is a 400 that names the query and what would help."""
    correlator.heavy = True
    said = client.get("/api/v1/containers", query_string={"q": "image:*"})
    assert (said.status_code, said.json["field"]) == (400, "q")
    assert "shorter" in said.json["detail"]


def test_a_bad_tag_filter_names_the_column(client: FlaskClient) -> None:
    """The filters of other questions are read by the same grammar, and refused in the same way."""
    said = client.get("/api/v1/requests", query_string={"tag": "image:web OR"})
    assert (said.status_code, said.json["field"], said.json["column"]) == (400, "tag", 13)


def test_keys_and_values_to_complete_with(client: FlaskClient) -> None:
    """Keys, and the values of one (also of a label with a slash), with counts; an empty list has its reason."""
    assert client.get("/api/v1/tags").json["items"][0] == {"key": "image", "containers": 2}
    assert [item["key"] for item in client.get("/api/v1/tags?prefix=r&limit=1").json["items"]] == ["region"]
    assert client.get("/api/v1/tags/app.io/name").json["items"] == [{"value": "app.io/name=1", "containers": 2}]
    assert "none" in client.get("/api/v1/tags/none").json["reason"]
    assert client.get("/api/v1/tags?limit=x").json["field"] == "limit"


# ---- the command


def test_people_get_a_table(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """0: value, group, ratio and how slow requests were, in 80 columns; below, who was not measured and why."""
    assert main([QUERY, "--server", live(Tagged())]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "2026-11-23 10:00:00 to 2026-11-23 10:15:00 UTC"
    assert " ".join(lines[3].split()) == "stock-1 812 MiB 421 MiB 1.93 1,200 40 ms 810 ms 12 %"
    assert lines[4] == "  gone since 10:04:10, image shop/stock, on vm-1, cpu.time 700 ms/s"
    assert lines[6:] == ["not measured: 1", "  web-1, memory.working_set: there is no reading of it"]
    assert all(cell_len(line) <= 80 for line in lines)
    assert err == ""


def test_machines_get_the_body(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the API's body comes unchanged."""
    assert main([QUERY, "--json", "--server", live(Tagged())]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["ratio"] == pytest.approx(812 / 421)


def test_nothing_found_is_a_reason(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """1 and the reason on stderr where it holds for nobody; who was not measured is told all the same."""
    nobody = replace(answer(), items=[], reason="it holds for none of the 3 containers with these tags")
    assert main([QUERY, "--server", live(Tagged(containers_of=nobody))]) == 1
    out, err = capsys.readouterr()
    assert err == "layerline containers: it holds for none of the 3 containers with these tags\n"
    assert "not measured: 1" in out


def test_a_bad_query_is_shown_with_a_caret(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """2, and below the query a caret where it is wrong."""
    assert main(["image:web memry.usage > 1", "--server", live(Tagged())]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1:] == ["  image:web memry.usage > 1", "            ^"]


def test_the_caret_stands_below_wide_and_odd_characters() -> None:
    """Wide characters take two columns of a terminal, and controls none of their own."""
    assert pointed("a:好\n§", 5) == ("  a:好 §", "        ^"[:2] + " " * 5 + "^")


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (500.0, "By", "500 B"), (1536.0, "By", "1.5 KiB"), (200.0 * MIB, "By", "200 MiB"), (3e6, "By/s", "2.9 MiB/s"),
        (2.5e8, "ns/s", "250 ms/s"), (4e8, "ns", "400 ms"), (0.123, "1", "12.3 %"), (3.25, "{page}/s", "3.25 /s"),
        (12.0, "{request}", "12"), (0.0, "ns/s", "0 ms/s"),
    ],
)  # fmt: skip
def test_figures_are_said_as_people_say_them(value: float, unit: str, said: str) -> None:
    """Sizes in binary units, times in the unit that fits, rates per second."""
    assert amount(value, unit) == said


def test_a_stranger_is_recognised(live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """An answer that is not of this shape is no traceback: 2."""
    monkeypatch.setattr("layerline_api.commands.containers.body_of", lambda *_: {"items": [{}]})
    assert main([QUERY, "--server", live(Tagged())]) == 2
    assert "did not answer as Layerline does" in capsys.readouterr().err
