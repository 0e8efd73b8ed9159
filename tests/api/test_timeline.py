"""The timeline over HTTP and on the terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from api_fake import TRACE, FakeCorrelator
from flask.testing import FlaskClient
from live_server import Live
from rich.cells import cell_len

from layerline_api.app import create_app
from layerline_api.commands.timeline import main
from layerline_api.terminal.timeline import picture
from layerline_correlator.entity import Entity
from layerline_correlator.plain import plain
from layerline_correlator.questions.timeline import (
    SIGNALS,
    Event,
    IncidentMark,
    LeftOut,
    Series,
    StepTooFine,
    Timeline,
    TimelineQuery,
)
from layerline_correlator.store.patience import TooHeavy

STOCK = Entity("container", "4f2a" + "0" * 60, "stock-1")
HOST = Entity("host", "id-1", "vm-3")


def series(name: str, values: list[float | int | None], **more: Any) -> Series:
    given: dict[str, Any] = {
        "layer": "container", "about": "readings", "kind": "rate", "unit": "s/s", "entity": STOCK, "attributes": {},
    } | more  # fmt: skip
    return Series(name=name, values=values, **given)


def drawn() -> Timeline:
    """Twenty seconds in which stock-1 was throttled, and was read from the third second on."""
    of_all: dict[str, Any] = {"layer": "app", "about": "requests", "entity": None}
    return Timeline(
        from_="2026-11-23T10:00:00.000000000Z",
        to="2026-11-23T10:00:20.000000000Z",
        step_ns=10**9,
        points=20,
        trace_id=None,
        service="web",
        operation="GET /cart",
        series=[
            series("requests.count", [0, 5, *[10] * 18], kind="count", unit="1", **of_all),
            series("requests.p95", [None, *[10**8] * 9, *[10**9] * 10], kind="quantile", unit="ns", **of_all),
            series("container.cpu_throttled", [0.0] * 10 + [0.5] * 10, about="causes", entity=None),
            series("container.cpu.throttled", [None] * 2 + [0] * 8 + [0.5] * 10),
            series("container.memory.working_set", [None] * 2 + [2**20] * 18, kind="level", unit="By"),
            series("container.disk.io", [0] * 20, unit="By/s", attributes={"disk.io.direction": "read"}),
            series("system.cpu.time", [1.5] * 20, layer="host", entity=HOST, attributes={"cpu.mode": "user"}),
            series("system.cpu.time", [0.5] * 20, layer="host", entity=HOST, attributes={"cpu.mode": "idle"}),
        ],
        events=[Event("2026-11-23T10:00:10.500000000Z", "container.update", "limit 0.1", STOCK, {})],
        incidents=[IncidentMark("i1", "2026-11-23T10:00:10.000000000Z", None, ["web"], "app.blocked", "web was slow")],
        left_out=LeftOut(entities=3),
    )


@dataclass
class Drawing(FakeCorrelator):
    """Answers with one timeline and remembers what it was asked."""

    found: Timeline | None = field(default_factory=drawn)
    trouble: Exception | None = None
    queries: list[TimelineQuery] = field(default_factory=list)

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        self.queries.append(query)
        if self.trouble is not None:
            raise self.trouble
        return self.found


@pytest.fixture
def correlator() -> Drawing:
    return Drawing()


@pytest.fixture
def client(correlator: Drawing) -> FlaskClient:
    return create_app(correlator).test_client()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAYERLINE_SERVER", "LAYERLINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_the_body_is_the_timeline(client: FlaskClient) -> None:
    """Name for name the dataclasses, gaps as null."""
    body = client.get("/api/v1/timeline").json
    assert body == plain(drawn())
    assert body["from"] == "2026-11-23T10:00:00.000000000Z"
    assert body["series"][3]["values"][:3] == [None, None, 0]


def test_what_is_asked_for_reaches_the_heart(client: FlaskClient, correlator: Drawing) -> None:
    """Filters, window, step and signals; without a window the last 15 minutes, or for a request its own time."""
    client.get(
        "/api/v1/timeline?service=web&operation=GET+/cart&entity=container:stock-1&tag=image:web&step=2s&since=1h"
        "&signal=container.cpu.*,a[b"
    )
    client.get(f"/api/v1/timeline?trace_id={TRACE}")
    client.get(f"/api/v1/timeline?trace_id={TRACE}&from=2026-11-23T10:00:00Z&to=2026-11-23T11:00:00Z")
    client.get("/api/v1/timeline?entity=host:vm-3")
    first, of_request, in_window, of_host = correlator.queries
    assert (first.service, first.operation, first.entity) == ("web", "GET /cart", ("container", "stock-1"))
    assert (len(first.tags), first.step_ns, first.signals) == (1, 2 * 10**9, ("container.cpu.*", "a[[]b"))
    assert (of_request.trace_id, of_request.from_ns, of_request.to_ns) == (TRACE, None, None)
    assert (in_window.from_ns, in_window.to_ns) == (1_795_428_000 * 10**9, 1_795_431_600 * 10**9)
    assert of_host.signals == SIGNALS
    assert of_host.from_ns is not None
    assert of_host.to_ns is not None
    assert 0 <= of_host.to_ns - of_host.from_ns - 900 * 10**9 <= 1


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("trace_id=xyz", "trace_id"),
        (f"trace_id={TRACE}&service=web", "service"),
        (f"trace_id={TRACE}&tag=image:web", "tag"),
        ("entity=web-1", "entity"),
        ("entity=container:", "entity"),
        ("entity=planet:earth", "entity"),
        ("step=often", "step"),
        ("step=0s", "step"),
        ("step=-1s", "step"),
        ("step=99999999999999d", "step"),
        ("signal=", "signal"),
        ("signal=a,,b", "signal"),
        ("service=", "service"),
        ("since=1h&from=2026-11-23T10:00:00Z", "since"),
        ("from=2026-11-23T10:00:00Z&to=2026-11-23T09:00:00Z", "from"),
        ("tag=image", "tag"),
        ("window=1h", "window"),
        ("entity=host:a&entity=host:b", "entity"),
    ],
)
def test_bad_input(client: FlaskClient, correlator: Drawing, question: str, name: str) -> None:
    """400 in the shape of all problems, and the field to blame; the heart is not asked."""
    answer = client.get(f"/api/v1/timeline?{question}")
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert answer.json["field"] == name
    assert correlator.queries == []


def test_questions_that_are_too_much(client: FlaskClient, correlator: Drawing) -> None:
    """A step that is too fine names the step that would do; what takes too long says what to narrow."""
    correlator.trouble = StepTooFine("it would give more than 2,000 points; expected 0.5s or more")
    answer = client.get("/api/v1/timeline?step=100ms")
    assert (answer.status_code, answer.json["field"]) == (400, "step")
    assert answer.json["detail"] == "step is '100ms': it would give more than 2,000 points; expected 0.5s or more"
    correlator.trouble = TooHeavy("it took longer than 30 s")
    answer = client.get("/api/v1/timeline")
    assert answer.status_code == 400
    assert "shorter window" in answer.json["detail"]


def test_an_unknown_request(client: FlaskClient, correlator: Drawing) -> None:
    """404 that names it."""
    correlator.found = None
    answer = client.get(f"/api/v1/timeline?trace_id={TRACE}")
    assert answer.status_code == 404
    assert TRACE in answer.json["detail"]


# ---- the command


PICTURE = """\
web  GET /cart
2026-11-23 10:00:00 to 2026-11-23 10:00:20 UTC, a value for each 1 s

                          10:00:00  10:00:05  10:00:10  10:00:15
requests
  count                   ▁▁▅▅████████████████████████████████████ 10
  p95                     ··▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂████████████████████ 1,000 ms
where the time went, per second
  container.cpu_throttled ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████████████ 500 ms/s
container stock-1
  cpu.throttled           ····▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████████████ 500 ms/s
  memory.working_set      ····████████████████████████████████████ 1.0 MiB
host vm-3
  cpu.time user           ████████████████████████████████████████ 1.50 CPUs
incidents
  app.blocked                                 ━━━━━━━━━━━━━━━━━━━━
  10:00:10  web was slow
events                                         1
  10:00:10.5  container.update  container stock-1  limit 0.1

· not measured   ▁ zero   the tallest block is the highest value, at the right
1 more were measured and stayed at 0.
3 more entities are left out; narrow what is asked for.
"""


def test_a_picture(live: Live, correlator: Drawing, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each series on the same columns, gaps as dots and zeros as the lowest block, in 80 columns."""
    assert main(["--service", "web", "--since", "1h", "--step", "1s", "--server", live(correlator)]) == 0
    out, err = capsys.readouterr()
    assert out == PICTURE
    assert err == ""
    assert correlator.queries[-1].service == "web"


def test_json_is_the_body(live: Live, correlator: Drawing, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints what the API says, unchanged; signals and tags reach it."""
    options = ["--json", "--tag", "image:web", "--signal", "container.cpu.*", "--signal", "system.*"]
    assert main([*options, "--server", live(correlator)]) == 0
    assert json.loads(capsys.readouterr().out) == plain(drawn())
    assert correlator.queries[-1].signals == ("container.cpu.*", "system.*")


def test_nothing_to_show(live: Live, correlator: Drawing, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in the window, or an unknown request: 1 and the reason on stderr; a bad question: 2."""
    where = ["--server", live(correlator)]
    correlator.found = replace(drawn(), series=[], events=[], incidents=[], reason="the window is older than the data")
    assert main(where) == 1
    assert capsys.readouterr() == ("", "layerline timeline: the window is older than the data\n")
    correlator.found = None
    assert main([TRACE, *where]) == 1
    assert TRACE in capsys.readouterr().err
    assert main(["--entity", "web-1", *where]) == 2
    assert "expected container:NAME_OR_ID" in capsys.readouterr().err
    with pytest.raises(SystemExit) as bad:
        main([TRACE, "--service", "web", *where])
    assert bad.value.code == 2


@pytest.mark.parametrize("points", [1, 3, 39, 40, 41, 107, 240, 2000])
def test_any_number_of_points_fits(points: int) -> None:
    """Every picture has 80 columns at most, and the one value that is high is always seen."""
    for place in {0, points // 2, points - 1}:
        values: list[float | int | None] = [0.001] * points
        values[place] = 1.0
        one = replace(drawn(), points=points, series=[series("container.cpu.time", values)], incidents=[], events=[])
        lines = [line.plain for line in picture(plain(one))]
        assert all(cell_len(line) <= 80 for line in lines)
        (line,) = [line for line in lines if "cpu.time" in line]
        assert "█" in line
        assert "·" not in line


def test_names_from_outside_do_no_harm() -> None:
    """Control characters in names, events and attributes do not reach the terminal."""
    bad = "\x1b[31mred\x07"
    evil = replace(
        drawn(),
        service=bad,
        series=[series(bad, [1] * 20, entity=Entity("container", "x", bad), attributes={"a": bad})],
        events=[Event("2026-11-23T10:00:10.000000000Z", bad, bad, Entity("container", "x", bad), {})],
    )
    assert not any("\x1b" in line.plain or "\x07" in line.plain for line in picture(plain(evil)))
