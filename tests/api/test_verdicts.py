"""`layerline why`: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from api_fake import TOKEN, TRACE, FakeCorrelator, full, verdict, window_verdict
from live_server import Live
from rich.cells import cell_len

from layerline_api.commands.verdicts import main
from layerline_api.settings import ServerSettings
from layerline_correlator.plain import plain


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAYERLINE_SERVER", "LAYERLINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    out, err = capsys.readouterr()
    return out, err


def test_a_request_is_explained(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """With an id: 0, the verdict for people in 80 columns on stdout, nothing on stderr, no colours."""
    assert main([TRACE, "--server", live(full())]) == 0
    out, err = said(capsys)
    assert "Mostly container stock-1: held back by its CPU limit, 400 ms (73 % of the excess)." in " ".join(out.split())
    assert "\x1b" not in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())
    assert err == ""


def test_a_window_is_explained(live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an id: a block for each operation and the command that shows one request; filters reach the server."""
    correlator = full()
    monkeypatch.setenv("LAYERLINE_SERVER", live(correlator))
    arguments = ["--service", "web", "--operation", "GET /cart", "--since", "1h", "--tag", "region:abc", "--absolute"]
    assert main(arguments) == 0
    out, _ = said(capsys)
    assert f"layerline why {TRACE}" in out
    asked = correlator.asked[-1]
    assert (asked.service, asked.operation, asked.tags, asked.absolute) == (
        "web", "GET /cart", (("region", "abc"),), True,
    )  # fmt: skip
    assert asked.to_ns - asked.from_ns == 3600 * 10**9


def test_a_window_is_compared_with_another_time(live: Live) -> None:
    """--against takes two times, or a word for the same hours of another day."""
    correlator = full()
    where = live(correlator)
    times = ["--from", "2026-11-23T10:00:00Z", "--to", "2026-11-23T11:00:00Z", "--server", where]
    hour_ns = 3600 * 10**9
    for against, earlier_ns in (
        ("yesterday", 24 * hour_ns),
        ("last-week", 7 * 24 * hour_ns),
        ("2026-11-23T08:00:00Z/2026-11-23T09:00:00Z", 2 * hour_ns),
    ):
        assert main([*times, "--against", against]) == 0
        asked = correlator.asked[-1]
        assert asked.against == (asked.from_ns - earlier_ns, asked.to_ns - earlier_ns)
    assert main(times) == 0
    assert correlator.asked[-1].against is None


def test_absolute_ranks_a_request_too(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """--absolute with an id tells the same ledger without usual."""
    assert main([TRACE, "--absolute", "--server", live(full())]) == 0
    assert "of the time)" in " ".join(said(capsys)[0].split())


@pytest.mark.parametrize("trace", [True, False])
def test_json_is_the_servers_own(live: Live, capfdbinary: pytest.CaptureFixture[bytes], trace: bool) -> None:
    """--json prints the API's body, byte for byte."""
    arguments = [TRACE] if trace else []
    assert main([*arguments, "--json", "--server", live(full())]) == 0
    out, err = capfdbinary.readouterr()
    expected = plain(verdict()) if trace else {"items": [plain(window_verdict())], "next": None, "reason": None}
    assert out == json.dumps(expected).encode() + b"\n"
    assert err == b""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a" * 32], f"there is no request with trace id {'a' * 32}"),
        (["--service", "x"], "no request was slow in the window"),
        (["--service", "x", "--json"], "no request was slow in the window"),
    ],
)
def test_nothing_to_answer_with(
    live: Live, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    """An unknown trace, nothing slow, nothing received: 1, and the reason on stderr in one line."""
    assert main([*arguments, "--server", live(FakeCorrelator())]) == 1
    assert said(capsys)[1] == f"layerline why: {reason}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["xyz"], "trace_id is 'xyz'"),
        (["--since", "soon"], "since is 'soon'"),
        (["--from", "yesterday"], "from is 'yesterday'"),
        (["--tag", "red"], "tag is 'red'"),
        (["--against", "noon"], "against is 'noon'; expected two times as FROM/TO"),
        (["--against", "2026-11-23T10:00:00Z/2026-11-23T09:00:00Z"], "against is '2026-11-23T10:00:00Z/2026"),
        (["--since", "2d", "--against", "yesterday"], "against overlaps the window"),
    ],
)
def test_a_question_the_server_does_not_take(
    live: Live, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    """What the server refuses: 2, and its words in one line."""
    assert main([*arguments, "--server", live(full())]) == 2
    out, err = said(capsys)
    assert out == ""
    assert err.startswith(f"layerline why: {reason}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[TRACE, "--since", "1h"], [TRACE, "--tag", "a:b"], ["--limit", "5"], [TRACE, TRACE]],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Options that do not exist or do not go together: 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: layerline why" in said(capsys)[1]


def test_the_token_is_taken_from_the_environment_or_the_option(
    live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without or with a wrong token 2, with the right one 0; the option comes before the environment."""
    where = live(full(), ServerSettings(token=TOKEN, loopback_only=False))
    assert main([TRACE, "--server", where]) == 2
    assert "token" in said(capsys)[1]
    monkeypatch.setenv("LAYERLINE_TOKEN", TOKEN)
    assert main([TRACE, "--server", where]) == 0
    assert main([TRACE, "--server", where, "--token", "wrong"]) == 2


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "ftp://x", "nonsense", "http://[::1", "http://\udcff:1"])
def test_a_server_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], server: str) -> None:
    """Nobody there, or no address at all: 2, in one line."""
    assert main([TRACE, "--server", server]) == 2
    err = said(capsys)[1]
    assert err.startswith("layerline why: ")
    assert err.count("\n") == 1


class _Other(BaseHTTPRequestHandler):
    """A server that is not Layerline."""

    answer: tuple[int, bytes] = (200, b"")

    def do_GET(self) -> None:
        code, body = self.answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def other() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Other)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"items": [{"service": 1}]}'), (404, b"not found"),
        (500, b"[]"), (302, b""), (200, b'{"items": 5}'), (200, b"\xff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("arguments", [[TRACE], []])
def test_somebody_else_answers(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    other: str,
    arguments: list[str],
    answer: tuple[int, bytes],
) -> None:
    """Whatever another server says is no verdict: one line, never a traceback."""
    monkeypatch.setattr(_Other, "answer", answer)
    assert main([*arguments, "--server", other]) == 2
    assert said(capsys)[1].count("\n") == 1


def test_an_inconclusive_verdict_is_an_answer(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """ "I do not know, because X was not measured" is an answer: 0."""
    unsure = replace(verdict(), culprits=[], conclusive=False)
    assert main([TRACE, "--server", live(FakeCorrelator(known={(TRACE, None): unsure}))]) == 0
    assert "Inconclusive, because" in said(capsys)[0]
