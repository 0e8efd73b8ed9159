"""HTTP over TLS: the same answers, and nobody keeps others out who does not finish the handshake."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests
from api_fake import full, one_span
from flask import Flask, request

from layerline_api.app import create_app
from layerline_api.doors.addresses import addresses, bind, url
from layerline_api.doors.http_server import Door
from layerline_api.doors.tls import Certificate, certificate_of
from layerline_api.settings import ServerSettings
from waiting import PATIENCE_S, eventually

Serve = Callable[..., str]
Pair = tuple[Path, Path]


@pytest.fixture
def serve(certificate: Pair) -> Iterator[Serve]:
    """``serve(app)`` is the https URL of a server that ends with the test; ``plain`` gets one without TLS beside."""
    doors: list[tuple[threading.Thread, threading.Event, socket.socket]] = []

    def begin(app: Flask, plain: list[str] | None = None, **options: int) -> str:
        bound = bind(addresses("127.0.0.1:0")[0])
        beside = [bind(addresses("127.0.0.1:0")[0])] if plain is not None else []
        if plain is not None:
            plain.append(url(beside[0]))
        door, stop = (
            Door(app, [bound], certificate=Certificate(*certificate), plain=beside, **options),
            threading.Event(),
        )
        where = url(bound, "https")
        thread = threading.Thread(target=door.serve, args=(stop,))
        thread.start()
        doors.append((thread, stop, bound))
        return where

    yield begin
    for thread, stop, _ in doors:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def echo() -> Flask:
    """Answers with what it was sent, and says by which scheme."""
    app = Flask("echo")

    @app.route("/", methods=["GET", "POST"])
    def back() -> tuple[bytes, dict[str, str]]:
        return request.get_data(), {"X-Scheme": request.scheme, "X-From": request.remote_addr or ""}

    return app


def port_of(where: str) -> int:
    return int(where.rpartition(":")[2])


def trusting(certificate: Pair) -> requests.Session:
    session = requests.Session()
    session.trust_env, session.verify = False, str(certificate[0])
    return session


def test_questions_and_spans_over_tls(serve: Serve, certificate: Pair) -> None:
    """The API answers and OTLP is taken, with a certificate that the client checks."""
    correlator = full()
    where = serve(create_app(correlator))
    with trusting(certificate) as session:
        assert session.get(f"{where}/api/v1/requests", timeout=PATIENCE_S).status_code == 200
        headers = {"Content-Type": "application/x-protobuf"}
        body = one_span().SerializeToString()
        assert session.post(f"{where}/v1/traces", data=body, headers=headers, timeout=PATIENCE_S).status_code == 200
    assert len(correlator.batches) == 1


def test_bodies_of_any_size_arrive_whole_and_many_at_a_time(serve: Serve, echo: Flask, certificate: Pair) -> None:
    """What is sent comes back, byte for byte, on several connections that are used again; the app knows the scheme."""
    where = serve(echo)

    def ask(number: int) -> bool:
        with trusting(certificate) as session:
            for size in (0, 1, 70_000, 3_000_000):
                body = bytes([number]) * size
                answer = session.post(where, data=body, timeout=PATIENCE_S)
                if answer.content != body or answer.headers["X-Scheme"] != "https":
                    return False
        return answer.headers["X-From"] == "127.0.0.1"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [True] * 8


def test_who_does_not_speak_tls_is_not_served(serve: Serve, echo: Flask, certificate: Pair) -> None:
    """HTTP without TLS gets no answer, an older TLS neither; the next one who does is served."""
    where = serve(echo)
    with pytest.raises(requests.ConnectionError):
        requests.get(where.replace("https", "http"), timeout=PATIENCE_S)
    with closing(socket.create_connection(("127.0.0.1", port_of(where)), PATIENCE_S)) as garbage:
        garbage.sendall(b"\x00" * 1000)
        with suppress(ConnectionResetError):
            while garbage.recv(1000):  # an alert at most, then it is closed
                pass
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(where, timeout=PATIENCE_S)  # and the client does not trust the certificate
    with trusting(certificate) as session:
        assert session.get(where, timeout=PATIENCE_S).status_code == 200


def test_connections_that_never_shake_hands_do_not_keep_others_out(
    serve: Serve, echo: Flask, certificate: Pair
) -> None:
    """When there are many of them, those that have been idle longest are closed."""
    where = serve(echo, connections=20)
    idle = [socket.create_connection(("127.0.0.1", port_of(where)), PATIENCE_S) for _ in range(40)]
    try:
        with trusting(certificate) as session:
            assert session.get(where, timeout=PATIENCE_S).status_code == 200

        def closed() -> bool:
            return sum(is_closed(one) for one in idle) >= 20

        eventually(closed)
    finally:
        for one in idle:
            one.close()


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_what_has_begun_is_answered_when_the_server_ends(certificate: Pair) -> None:
    """A request that is being answered gets its answer over TLS, though the server was asked to end meanwhile."""
    app, begun, go_on = Flask("slow"), threading.Event(), threading.Event()

    @app.get("/")
    def slow() -> bytes:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return b"x" * 500_000

    bound = bind(addresses("127.0.0.1:0")[0])
    door, stop = Door(app, [bound], certificate=Certificate(*certificate)), threading.Event()
    where = url(bound, "https")
    server = threading.Thread(target=door.serve, args=(stop,))
    server.start()
    with ThreadPoolExecutor(1) as pool, trusting(certificate) as session:
        answer = pool.submit(session.get, where, timeout=PATIENCE_S)
        assert begun.wait(PATIENCE_S)
        stop.set()
        go_on.set()
        assert len(answer.result(PATIENCE_S).content) == 500_000
    server.join(PATIENCE_S)
    assert not server.is_alive()


def test_an_address_may_stay_plain(serve: Serve, echo: Flask) -> None:
    """The agent beside a server with a certificate has a door of its own."""
    plain: list[str] = []
    serve(echo, plain)
    answer = requests.get(plain[0], timeout=PATIENCE_S)
    assert (answer.status_code, answer.headers["X-Scheme"]) == (200, "http")


def test_a_certificate_is_read_anew(certificate: Pair, tmp_path: Path) -> None:
    """New connections get the new one; a file that is of no use changes nothing."""
    files = tmp_path / "a.pem", tmp_path / "b.pem"
    for source, copy in zip(certificate, files, strict=True):
        shutil.copy(source, copy)
    held = Certificate(*files)
    assert held.context.minimum_version == ssl.TLSVersion.TLSv1_2
    held.load()
    files[0].write_text("nonsense")
    with pytest.raises(ValueError, match="expected a certificate and its key"):
        held.load()
    assert certificate_of(ServerSettings()) is None
