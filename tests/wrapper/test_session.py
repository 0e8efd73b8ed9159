"""What posts: bounded time and memory whatever a server answers, and what came back in words."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest
import requests

from layerline.session import LONGEST_WAIT_S, MOST_BYTES, Outcome, Session, on_this_machine, printable, retry_after_s
from waiting import PATIENCE_S
from wrapper.conftest import Sink

Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Takes one request after another and answers on the bare socket."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received or not received.endswith(b"body"):
                if not (part := connection.recv(65_536)):
                    return
                received += part
            answer(connection)
            ended.wait(PATIENCE_S)

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def posted(url: str, timeout_s: float = PATIENCE_S) -> Outcome:
    session = Session()
    with suppress(requests.RequestException):
        session.post(url, data=b"body", timeout=timeout_s)
    session.close()
    assert session.outcome is not None
    return session.outcome


def sends(*parts: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def endless(head: bytes, part: bytes, every_s: float = 0.0) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(every_s)

    return answer


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"


@pytest.mark.parametrize(("head", "part"), [(CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n"), (LONG, b"a" * 65_536)])
def test_an_endless_answer_is_read_to_a_bound(head: bytes, part: bytes) -> None:
    """Of an answer without end the first bytes are kept, the rest is never read, and its status counts."""
    with server(endless(head, part)) as url:
        outcome = posted(url)
    assert outcome.delivered
    assert len(outcome.content) == MOST_BYTES


@pytest.mark.parametrize(
    ("head", "part", "status"),
    [(LONG, b"a", 200), (b"HTTP/1.1 200 OK\r\nX: ", b"a", None), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", None)],
)
def test_a_slow_answer_is_given_up(head: bytes, part: bytes, status: int | None) -> None:
    """An answer that drips, in its body or its headers, is given up when the time for the whole of it is over."""
    with server(endless(head, part, every_s=0.02)) as url:
        began = time.monotonic()
        outcome = posted(url, timeout_s=0.5)
        assert time.monotonic() - began < PATIENCE_S / 2  # it would never end
    assert outcome.status == status
    assert outcome.later == (status is None)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (sends(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 9\r\n\r\na\x1b[31m\nno"), "418 I'm a teapot: a [31m no"),
        (sends(b"HTTP/1.1 307 X\r\nLocation: http://b/\r\nContent-Length: 0\r\n\r\n"), "307 X, a redirect to http://b/"),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP"),
        (sends(), "no whole answer within 0.5 s"),
        (lambda connection: connection.close(), "closed without an answer"),
    ],
)  # fmt: skip
def test_what_came_back_is_said(answer: Answer, says: str) -> None:
    """Status, reason and first bytes; a redirect's target; no HTTP; no answer; a closed connection."""
    with server(answer) as url:
        assert says in posted(url, timeout_s=0.5 if "0.5" in says else PATIENCE_S).words


def test_why_nobody_answered_is_said() -> None:
    """Nothing listens, no such name, no TLS, no address: each has words of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "connection refused" in posted(f"http://127.0.0.1:{free.getsockname()[1]}").words
    with server(sends(b"HTTP/1.1 400 Bad\r\n\r\n")) as url:
        assert posted(url.replace("http", "https"), timeout_s=0.5).words.startswith(("TLS failed", "no whole answer"))
    assert "its name is not known here" in posted("http://no-such-host.invalid:1").words
    assert posted("::::").words.startswith("InvalidSchema")


def test_no_proxy_stands_before_this_machine(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment is asked for other machines only."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert posted(f"{sink.url}/v1/traces").delivered
    assert posted(sink.url.replace("127.0.0.1", "localhost")).status == 200
    assert "connection refused" in posted("http://elsewhere.invalid/").words  # by the proxy
    monkeypatch.setenv("HTTP_PROXY", sink.url)
    monkeypatch.setenv("http_proxy", sink.url)
    assert posted("http://elsewhere.invalid/v1/traces").delivered  # through the proxy


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),  # noqa: S104 - nobody listens there
        ("localhost", True),
        ("shop.localhost", True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host: str, expected: bool) -> None:
    """Loopback addresses and names are, others are not."""
    assert on_this_machine(host) is expected


def test_retry_after_as_number_and_as_date() -> None:
    """Seconds and HTTP dates are understood, up to a bound; the past is now; nonsense is as good as nothing."""
    assert retry_after_s("7") == 7.0
    assert retry_after_s(email.utils.formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=29)
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    for year in ("31536000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert retry_after_s(year) == LONGEST_WAIT_S
    for nonsense in (None, "", "soon", "-1", "1.5", "²", "nan", "inf", "Mon, 01 Jan 0001 00:00:00 -0000", "1 2 3"):
        assert retry_after_s(nonsense) in (None, 0.0), nonsense


def test_a_stranger_s_words_are_one_short_line() -> None:
    """No control characters, no line breaks, no end of it."""
    said = printable("\x1b]0;title\x07 a\r\nb\u202e" + "c" * 10**6)
    assert said.isprintable()
    assert len(said) <= 160
