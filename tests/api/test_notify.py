"""What is told to webhooks, where it may be told, and what happens where nobody listens. The receiver is a real one."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pytest
from api_fake import STOCK, TOKEN

from layerline_api.alerts import notify, patrol
from layerline_api.alerts.notify import GOOD_FOR_NS, Teller, address, payload, summary, why_not
from layerline_api.alerts.patrol import Patrol
from layerline_api.settings import ServerSettings
from layerline_correlator.entity import Entity
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import Alert, Evaluation, Finding, Monitor, Notice, Target
from waiting import PATIENCE_S, eventually

SECOND, MIB = 10**9, 2**20
NOW = 1_795_428_900 * SECOND  # 2026-11-23T10:15:00Z
FIGURES = {
    "comparisons": [
        {
            "signal": "memory.working_set", "unit": "By", "operator": ">", "value": 812.0 * MIB,
            "bound": 631.5 * MIB, "group_value": 421.0 * MIB, "ratio": 812 / 421,
        }
    ]
}  # fmt: skip
ALERT = Alert("a1", "m1", STOCK, "firing", NOW - 120 * SECOND, NOW, fired_ns=NOW, figures=FIGURES)
SCHEMA = json.loads((Path(__file__).parent / "alertmanager/post_alerts.json").read_text(encoding="utf-8"))
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Receiver:
    """A webhook that answers with the statuses it was given, one after another, and then with 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[str, dict[str, str], Any]] = []
        received, statuses = self.received, self.statuses

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, dict(self.headers), json.loads(body)))
                status = statuses.pop(0) if statuses else 200
                self.send_response(status)
                self.send_header("Retry-After", "3600")
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"secret")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


def notice(kind: str = "webhook", url: str = "http://127.0.0.1:1/x", **of_alert: Any) -> Notice:
    monitor = Monitor("m1", "too fat", "query", "image:web", 30 * SECOND, 120 * SECOND, (Target(kind, url),))
    return Notice("n1", monitor, replace(ALERT, **of_alert), Target(kind, url), NOW)


# ---- shapes


def test_a_sentence_says_what_holds() -> None:
    """Who, which signal, how much, and against what."""
    assert summary(ALERT) == "container stock-1: memory.working_set 812 MiB (> 632 MiB; 1.93 times its group)"
    assert summary(replace(ALERT, figures={"summary": "14 % of the budget in an hour"})).endswith("in an hour")


def test_the_generic_shape_has_everything() -> None:
    """State, monitor, entity, times and figures, as JSON that keeps its names."""
    body = json.loads(json.dumps(payload(notice(state="resolved", resolved_ns=NOW + SECOND), NOW)))
    assert (body["version"], body["id"], body["state"]) == (1, "n1", "resolved")
    assert body["monitor"] == {"id": "m1", "name": "too fat", "question": "image:web"}
    assert body["alert"]["entity"] == {"type": "container", "id": STOCK.id, "name": "stock-1"}
    assert body["alert"]["since"] == "2026-11-23T10:13:00.000000000Z"
    assert body["alert"]["resolved"] == "2026-11-23T10:15:01.000000000Z"
    assert body["alert"]["comparisons"] == FIGURES["comparisons"]


@pytest.mark.parametrize(
    ("entity", "figures"),
    [
        (Entity("operation", "web GET /cart", "web GET /cart"), {"summary": "it burns", "slo": {"bad": 12}}),
        (Entity("incident", "215469e2dd35", "215469e2dd35"), {"summary": "web is slow", "incident": {"affected": 9}}),
    ],
)
def test_a_burn_or_an_incident_is_told_with_its_summary(entity: Entity, figures: dict[str, Any]) -> None:
    """In every shape who it is and what is said of it; the generic one has the figures, Alertmanager its schema."""
    said = f"{entity.type} {entity.name}: {figures['summary']}"
    generic = payload(notice(entity=entity, figures=figures), NOW)
    assert (generic["summary"], generic["alert"]) == (said, {**generic["alert"], **figures})
    body = payload(notice("alertmanager", entity=entity, figures=figures), NOW)
    jsonschema.validate(body, SCHEMA, jsonschema.Draft202012Validator)
    assert (body[0]["labels"]["entity_id"], body[0]["annotations"]["summary"]) == (entity.id, said)
    assert said in payload(notice("slack", entity=entity, figures=figures), NOW)["text"]


@pytest.mark.parametrize("state", [{}, {"state": "resolved", "resolved_ns": NOW + 60 * SECOND}])
def test_alertmanager_takes_its_shape(state: dict[str, Any]) -> None:
    """The body fits Alertmanager's published schema; labels stay when it is over; the end tells which it is."""
    body = payload(notice("alertmanager", **state), NOW)
    jsonschema.validate(body, SCHEMA, jsonschema.Draft202012Validator)
    (alert,) = body
    assert alert["labels"] == payload(notice("alertmanager"), NOW)[0]["labels"]
    assert all(LABEL.fullmatch(name) and value for name, value in alert["labels"].items())
    starts, ends = (datetime.fromisoformat(alert[name][:26] + "+00:00") for name in ("startsAt", "endsAt"))
    assert (ends - starts).total_seconds() == (60 if state else GOOD_FOR_NS // SECOND)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"labels": {"alertname": 1}}], SCHEMA)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://am:9093", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/prefix/", "http://am:9093/prefix/api/v2/alerts"),
        ("http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts"),
    ],
)
def test_an_alertmanager_is_found_by_its_base_address(url: str, sent: str) -> None:
    """The path of its API is added where it is missing."""
    assert address(notice("alertmanager", url)) == sent


def test_slack_calls_nobody() -> None:
    """Names from outside cannot use Slack's marks."""
    odd = notice("slack", entity=replace(STOCK, name="<!channel> `x` & \u202e"))
    body = payload(odd, NOW)
    assert "<" not in json.dumps(body, ensure_ascii=False)
    assert "&lt;!channel&gt; 'x' &amp; �" in body["text"]
    assert body["blocks"][0]["text"]["type"] == "mrkdwn"


# ---- where


@pytest.mark.parametrize(
    ("url", "token", "named", "may"),
    [
        ("https://hooks.example/x", None, (), False),
        ("https://hooks.example/x", TOKEN, (), True),
        ("https://hooks.example/x", None, ("https://hooks.example",), True),
        ("https://hooks.example/x/y", None, ("https://hooks.example/x",), True),
        ("https://hooks.example/xy", None, ("https://hooks.example/x",), False),
        ("https://hooks.example/x/../y", None, ("https://hooks.example/x",), False),
        ("https://hooks.example/x/%2E%2e/y", None, ("https://hooks.example/x",), False),
        ("https://hooks.example.evil/x", None, ("https://hooks.example",), False),
        ("https://hooks.example:444/x", None, ("https://hooks.example",), False),
        ("https://hooks.example:443/x", None, ("https://hooks.example",), True),
        ("http://hooks.example/x", None, ("https://hooks.example",), False),
        ("https://HOOKS.example/x", None, ("https://hooks.example",), True),
        ("https://other.example/x", TOKEN, ("https://hooks.example",), False),
        ("https://hooks.example@evil.example/x", None, ("https://hooks.example",), False),
        ("https://hooks.example\\@evil.example/", None, ("https://hooks.example",), False),
        ("https://user:pass@hooks.example/x", TOKEN, (), False),
        ("ftp://hooks.example/x", TOKEN, (), False),
        ("file:///etc/passwd", TOKEN, (), False),
        ("http:///x", TOKEN, (), False),
        ("http://h:99999/", TOKEN, (), False),
        ("http://h/ x", TOKEN, (), False),
        ("http://h/\r\nX: y", TOKEN, (), False),
        ("http://h/" + "x" * 2000, TOKEN, (), False),
    ],
)
def test_where_may_be_written_to(url: str, token: str | None, named: tuple[str, ...], may: bool) -> None:
    """Without a token only what was named at the start, with one also anywhere; http and https, and nothing odd."""
    reason = why_not(url, ServerSettings(token=token, notify=named))
    assert (reason is None) == may, reason


def test_addresses_are_named_by_a_variable() -> None:
    """LAYERLINE_NOTIFY holds them with commas between."""
    named = {"LAYERLINE_NOTIFY": "https://a.example/x, http://b:9093,"}
    assert ServerSettings.from_environment(named).notify == ("https://a.example/x", "http://b:9093")


# ---- how


def test_a_target_that_is_briefly_away_is_tried_again_at_once(receiver: Receiver) -> None:
    """503 and then 200: heard, with the same id in both tries, and without waiting for the hour it asks for."""
    receiver.statuses[:] = [503]
    teller = Teller(ServerSettings(notify=(receiver.url,)))
    assert teller.tell(notice(url=f"{receiver.url}/hook"), NOW) is None
    assert [path for path, _, _ in receiver.received] == ["/hook", "/hook"]
    assert {headers["Idempotency-Key"] for _, headers, _ in receiver.received} == {"n1"}
    assert receiver.received[0][2]["state"] == "firing"


@pytest.mark.parametrize("status", [400, 404, 500, 302])
def test_what_a_target_answers_is_told_by_its_status_only(receiver: Receiver, status: int) -> None:
    """A refusal or a redirect is not heard; nobody is led elsewhere, and nothing of the answer is shown."""
    receiver.statuses[:] = [status]
    teller = Teller(ServerSettings(notify=(receiver.url,)))
    assert teller.tell(notice(url=f"{receiver.url}/hook"), NOW) == f"it answered with status {status}"
    assert len(receiver.received) == 1


def test_where_nobody_listens_is_said(free_port: int) -> None:
    """A target that cannot be reached is a problem in words, and one that may not be written to is not tried."""
    url = f"http://127.0.0.1:{free_port}/x"
    assert (
        Teller(ServerSettings(notify=(url,))).tell(notice(url=url), NOW) == "it could not be reached: ConnectionError"
    )
    assert "LAYERLINE_NOTIFY" in (Teller(ServerSettings()).tell(notice(url=url), NOW) or "")


def test_the_round_tells_once_what_was_heard_and_again_what_was_not(receiver: Receiver) -> None:
    """One alert, a target that fails five times: one open alert, one notice, heard at the second round; then over."""
    clock = [NOW]
    holding = [True]

    def source(question: str, at_ns: int) -> Evaluation:
        return Evaluation((Finding(STOCK, FIGURES),) if holding[0] else ())

    database = duckdb.connect()
    monitors = Monitors(database.cursor(), {"query": source})
    target = Target("alertmanager", receiver.url)
    monitors.save(Monitor("m1", "too fat", "query", "image:web", 30 * SECOND, 0, (target,)))
    patrol = Patrol(monitors, Teller(ServerSettings(notify=(receiver.url,))), lambda: clock[0])
    receiver.statuses[:] = [503] * 3 + [500]
    for passed in (0, 1, 15, 16, 45, 46):
        clock[0] = NOW + passed * SECOND
        patrol.evaluate()
        patrol.tell()
        assert len(monitors.open_alerts()) == 1
    assert len(receiver.received) == 3 + 1 + 1
    assert monitors.untold("m1") == (0, None)
    holding[0] = False
    clock[0] = NOW + 90 * SECOND
    patrol.evaluate()
    patrol.tell()
    patrol.tell()
    assert len(receiver.received) == 6
    ends = [body[0]["endsAt"] for path, _, body in receiver.received if path == "/api/v2/alerts"]
    assert ends[-2:] == ["2026-11-23T14:15:45.000000000Z", "2026-11-23T10:16:30.000000000Z"]
    database.close()


def test_the_threads_end_when_they_are_told(receiver: Receiver) -> None:
    """Started and stopped, the rounds are over, and an evaluation that raised did not end them before."""
    asked = threading.Event()

    def source(question: str, at_ns: int) -> Evaluation:
        if asked.is_set():
            return Evaluation((Finding(STOCK, FIGURES),))
        asked.set()
        raise RuntimeError("odd")

    database = duckdb.connect()
    monitors = Monitors(database.cursor(), {"query": source})
    monitors.save(Monitor("m1", "fat", "query", "image:web", SECOND, 0, (Target("webhook", f"{receiver.url}/hook"),)))
    patrol = Patrol(monitors, Teller(ServerSettings(notify=(receiver.url,))))
    patrol.start()
    waiting = threading.Event()
    for _ in range(600):
        if receiver.received:
            break
        waiting.wait(0.05)
    patrol.stop()
    assert receiver.received[0][2]["state"] == "firing"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("layerline-noti")]
    database.close()


def test_a_target_that_hangs_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one target keeps its worker, the notices for another are told, and no second one is sent to the first."""
    monkeypatch.setattr(patrol, "_EVERY_S", 0.01)
    gate, told = threading.Event(), []
    due = {url: notice(url=url) for url in ("http://hangs/", "http://answers/")}

    class Monitors_:
        def evaluate_due(self, at_ns: int) -> None: ...

        def due_notices(self, at_ns: int, busy: Sequence[str]) -> list[Notice]:
            return [one for url, one in due.items() if url not in busy]

        def heard(self, notice: Notice, at_ns: int) -> None: ...

    class Teller_:
        def tell(self, notice: Notice, at_ns: int) -> None:
            told.append(notice.target.url)
            if notice.target.url == "http://hangs/":
                gate.wait(60)

    going = Patrol(Monitors_(), Teller_())  # type: ignore[arg-type]
    going.start()
    try:
        eventually(lambda: told.count("http://answers/") > 3)
        assert told.count("http://hangs/") == 1
    finally:
        gate.set()
        going.stop()


def test_notices_for_one_address_leave_room_for_others() -> None:
    """However many notices wait for an address that does not answer, those for others are in the list."""
    monitors = Monitors(duckdb.connect(), {})
    for number in range(300):
        url = "http://full/" if number < 299 else "http://other/"
        monitors._insert(
            "notice", notice=f"n{number:03}", alert=f"a{number}", url=url, created_ns=number, tries=0, next_ns=1,
            told=json.dumps(
                {"monitor": asdict(notice().monitor), "alert": asdict(ALERT), "target": {"kind": "webhook", "url": url}}
            ),
        )  # fmt: skip
    due = [one.target.url for one in monitors.due_notices(NOW)]
    assert (due.count("http://full/"), due.count("http://other/")) == (20, 1)
    assert [one.target.url for one in monitors.due_notices(NOW, ["http://full/"])] == ["http://other/"]


def test_an_answer_that_drips_in_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that sends a byte now and then, so that no single wait is long, is given up as a whole."""
    monkeypatch.setattr(notify, "ANSWER_S", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            while not over.is_set():
                with suppress(OSError):
                    client, _ = listening.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 200 OK\r\nA: ")
                        while not over.wait(0.02):
                            client.sendall(b"x")

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        problem = Teller(ServerSettings(token=TOKEN)).tell(notice(url=url), NOW)
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        dripping.join(PATIENCE_S)
    assert problem is not None
    assert problem.startswith("it could not be reached")
