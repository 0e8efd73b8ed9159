"""`layerline serve` and `up` as processes: how they begin, how they end, what they refuse."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import grpc
import pytest
import requests
from api_fake import MS, TOKEN, FakeCorrelator, one_span
from live_server import Live
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline_api.commands import serve, up
from layerline_api.commands.serve import grpc_places, grpc_sockets, parser, settings_of
from layerline_api.commands.verdicts import main as why
from layerline_api.doors.addresses import GRPC_DEFAULT, CannotListen, addresses
from layerline_api.settings import ServerSettings
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import Batch
from waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.long

PROTOBUF = {"Content-Type": "application/x-protobuf"}
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(serve, …)`` is a process with a store of its own that ends with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(command: ModuleType, *options: str, **environment: str) -> subprocess.Popen[str]:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("LAYERLINE_", "OTEL_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", command.__name__, *options],
            env={**inherited, "LAYERLINE_STORE": str(tmp_path / "store"), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
    for process in begun:
        process.wait(PATIENCE_S)
        assert process.stderr is not None
        process.stderr.close()


def until_up(process: subprocess.Popen[str]) -> str:
    """The first line it says on stderr."""
    assert process.stderr is not None
    return process.stderr.readline()


def seconds_ago(seconds: float, duration_ms: int) -> bytes:
    end_ns = time.time_ns() - round(seconds * 1e9)
    return one_span(
        trace_id=os.urandom(16), span_id=os.urandom(8), start_time_unix_nano=end_ns - duration_ms * MS,
        end_time_unix_nano=end_ns,
    ).SerializeToString()  # fmt: skip


def post(where: str, duration_ms: int = 900) -> int:
    """The status of a request with one span that ended a second ago."""
    body = seconds_ago(1, duration_ms)
    return requests.post(f"{where}/v1/traces", data=body, headers=PROTOBUF, timeout=PATIENCE_S).status_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_a_span_to_a_verdict_and_a_clean_end(
    start: Start, free_port: int, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says where it listens and stores, takes a span, explains it, ends with 0 when told, and has kept the span."""
    where = f"http://127.0.0.1:{free_port}"
    listen = ("--listen", f"127.0.0.1:{free_port}")
    process = start(serve, *listen)
    assert until_up(process) == f"layerline: listening on {where}, store in {tmp_path / 'store'}\n"
    assert requests.get(f"{where}/readyz", timeout=PATIENCE_S).json() == {"status": "ready"}
    assert why(["--server", where]) == 1
    assert post(where) == 200

    def explained() -> str:
        capsys.readouterr()
        code = why(["--server", where, "--json"])
        return capsys.readouterr().out if code == 0 else ""

    (verdict,) = json.loads(eventually(explained))["items"]
    assert (verdict["service"], verdict["duration_ns"], verdict["slow"]) == ("web", 900 * MS, 1)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0
    assert process.communicate()[1] == ""

    again = start(serve, *listen)
    until_up(again)
    assert why([verdict["examples"][0], "--server", where]) == 0
    assert "took 900 ms" in capsys.readouterr().out


def test_nothing_acknowledged_is_lost_to_kill_9(start: Start, free_port: int) -> None:
    """What was answered with 200 is there after kill -9."""
    where, listen = f"http://127.0.0.1:{free_port}", ("--listen", f"127.0.0.1:{free_port}")
    process = start(serve, *listen)
    until_up(process)
    assert [post(where) for _ in range(3)] == [200, 200, 200]
    process.kill()
    process.wait(PATIENCE_S)
    until_up(start(serve, *listen))
    assert eventually(lambda: len(requests.get(f"{where}/api/v1/requests", timeout=PATIENCE_S).json()["items"]) == 3)


GRPC = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def test_grpc_beside_http(start: Start, free_port: int) -> None:
    """Spans sent by gRPC from several senders at once while the server is told to stop: what was answered is kept, what
    was not is for the sender to send again, and the end is clean."""
    where = f"http://127.0.0.1:{free_port}"
    process = start(serve, "--listen", f"127.0.0.1:{free_port}", "--grpc-listen", "127.0.0.1:0")
    said = re.fullmatch(
        rf"layerline: listening on {where}, for gRPC on http://(127\S+), store in .+\n", until_up(process)
    )
    assert said
    kept: list[str] = []
    codes: list[grpc.StatusCode] = []

    def keep_sending() -> None:
        with grpc.insecure_channel(said[1]) as channel:
            export = channel.unary_unary(GRPC)
            while True:
                body = seconds_ago(1, 900)
                try:
                    export(body, timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    codes.append(error.code())
                    return
                kept.append(
                    ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
                )

    senders = [threading.Thread(target=keep_sending) for _ in range(6)]
    for sender in senders:
        sender.start()
    eventually(lambda: len(kept) > 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    for sender in senders:
        sender.join(PATIENCE_S)
    assert process.communicate()[1] == ""
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

    until_up(start(serve, "--listen", f"127.0.0.1:{free_port}"))

    def missing() -> set[str]:
        found = requests.get(f"{where}/api/v1/requests", params={"limit": "1000"}, timeout=PATIENCE_S).json()["items"]
        return set(kept) - {item["trace_id"] for item in found}

    eventually(lambda: not missing())


def test_where_grpc_listens() -> None:
    """On 4317 unless addresses were chosen; nowhere with `off`."""
    options = parser("serve", "")
    for given, expected in (
        ([], [GRPC_DEFAULT]),
        (["--listen", "127.0.0.1:0"], []),
        (["--grpc-listen", "off"], []),
        (["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:5"], ["127.0.0.1:5"]),
    ):
        assert [place.given for place in grpc_places(settings_of(options.parse_args(given), {})[1])] == expected


def test_a_usual_port_that_is_taken_is_gone_without() -> None:
    """gRPC's port in use by somebody else: served without it and told, unless it was asked for by name."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = addresses(f"127.0.0.1:{taken.getsockname()[1]}")
        sockets, missing = grpc_sockets(places, wanted=False)
        assert sockets == []
        assert "in use; going on without OTLP/gRPC" in missing
        with pytest.raises(CannotListen, match="in use"):
            grpc_sockets(places, wanted=True)


def refused(process: subprocess.Popen[str]) -> str:
    """Its one line, having ended with 2."""
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert (process.returncode, said.count("\n")) == (2, 1), said
    return said


def test_what_it_refuses(start: Start, free_port: int, tmp_path: Path) -> None:
    """A port in use, a store in use or one that cannot be a folder: 2 and one line."""
    listen = ("--listen", f"127.0.0.1:{free_port}")
    until_up(start(serve, *listen))
    assert "in use" in refused(start(serve, *listen))
    assert "in use by another process" in refused(start(serve, "--listen", "127.0.0.1:0"))
    http = ("--listen", "127.0.0.1:0")
    assert "in use" in refused(start(serve, *http, "--grpc-listen", f"127.0.0.1:{free_port}"))
    (tmp_path / "file").touch()
    assert "cannot be opened" in refused(
        start(serve, "--listen", "127.0.0.1:0", "--store", str(tmp_path / "file" / "store"))
    )


ANY_PORT = ("--listen", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("options", "slow", "said"),
    [
        (("--listen", "0.0.0.0:0"), "", "LAYERLINE_TOKEN"),
        (("--listen", "4318"), "", "expected HOST:PORT"),
        ((*ANY_PORT, "--grpc-listen", "0.0.0.0:0"), "", "LAYERLINE_TOKEN"),
        ((*ANY_PORT, "--grpc-listen", "127.0.0.1:0", "--tls-cert", "cert.pem"), "", "--tls-key"),
        ((*ANY_PORT, "--grpc-listen", "off", "--grpc-listen", "127.0.0.1:0"), "", "expected HOST:PORT"),
        (ANY_PORT, "soon", "LAYERLINE_SLOW"),
    ],
)
def test_what_it_is_asked_and_refuses(
    options: tuple[str, ...],
    slow: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An open address without a token, options and settings that are none: 2 and one line, and nothing is opened."""
    if slow:
        monkeypatch.setenv("LAYERLINE_SLOW", slow)
    assert serve.main([*options, "--store", str(tmp_path / "store")]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_beyond_loopback_with_a_token(start: Start, free_port: int) -> None:
    """With a token it listens anywhere, on several addresses, and asks for the token on each."""
    process = start(serve, "--listen", f"0.0.0.0:{free_port}", "--listen", "127.0.0.1:0", LAYERLINE_TOKEN=TOKEN)
    said = until_up(process)
    assert f"http://127.0.0.1:{free_port}, http://127.0.0.1:" in said
    assert TOKEN not in said
    for where in said.removeprefix("layerline: listening on ").partition(", store")[0].split(", "):
        assert requests.get(f"{where}/readyz", timeout=PATIENCE_S).status_code == 401
        assert requests.get(f"{where}/healthz", timeout=PATIENCE_S).status_code == 200
        with_token = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{where}/readyz", headers=with_token, timeout=PATIENCE_S).status_code == 200


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def words(pid: int) -> list[str]:
    """Its command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked to end the child: prctl(2)")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_agent_ends_with_its_server(start: Start, free_port: int, number: signal.Signals) -> None:
    """`up` runs the agent as a child that outlives neither a clean end nor kill -9."""
    process = start(up, "--listen", f"127.0.0.1:{free_port}", "--grpc-listen", "127.0.0.1:0")
    until_up(process)
    eventually(lambda: any("layerline_api.leash" in words(child) for child in children(process.pid)))
    (agent,) = children(process.pid)
    command = words(agent)
    assert command[command.index("agent") :][:3] == ["agent", "--endpoint", f"http://127.0.0.1:{free_port}"]
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    eventually(lambda: not alive(agent))


def test_an_agent_that_cannot_run_is_told(start: Start, free_port: int) -> None:
    """The agent refuses its options: one line says that readings are missing, and serving goes on."""
    process = start(up, "--listen", f"127.0.0.1:{free_port}", "--interval", "nonsense")
    assert process.stderr is not None
    assert any("the agent ended" in line for line in process.stderr)
    assert requests.get(f"http://127.0.0.1:{free_port}/readyz", timeout=PATIENCE_S).status_code == 200


# ---- the door


def test_what_has_begun_is_answered(live: Live) -> None:
    """A request that is being stored when the server is told to stop still gets its answer."""

    class Slow(FakeCorrelator):
        begun = threading.Event()

        def append(self, batch: Batch) -> tuple[Exceeded, ...]:
            self.begun.set()
            time.sleep(0.7)
            return super().append(batch)

    from live_server import serving

    slow, codes = Slow(), []
    with serving(slow, ServerSettings()) as where:

        def send() -> None:
            codes.append(post(where))

        sender = threading.Thread(target=send)
        sender.start()
        assert slow.begun.wait(PATIENCE_S)
    sender.join(PATIENCE_S)
    assert codes == [200]
    with pytest.raises(requests.ConnectionError):
        requests.get(where, timeout=PATIENCE_S)


def test_questions_are_answered_while_the_store_is_slow(live: Live) -> None:
    """Receiving never takes all threads: beyond its share senders are told to come back, and questions are answered."""
    gate = threading.Event()

    class Stuck(FakeCorrelator):
        def append(self, batch: Batch) -> tuple[Exceeded, ...]:
            gate.wait(60)
            return super().append(batch)

    where = live(Stuck(), ServerSettings(receive_at_once=3))
    codes: list[int] = []

    def send() -> None:
        codes.append(post(where))

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    eventually(lambda: len(codes) == 5)
    assert codes == [503] * 5
    assert requests.get(f"{where}/api/v1/services", timeout=PATIENCE_S).status_code == 200
    gate.set()
    for sender in senders:
        sender.join(PATIENCE_S)
    assert sorted(codes) == [200] * 3 + [503] * 5


def test_hostile_connections(live: Live) -> None:
    """Half a request, rubbish, an enormous declared length and a silent client leave the server answering."""
    where = live(FakeCorrelator())
    port = int(where.rpartition(":")[2])
    silent = []
    for sent in (
        b"", b"GET", b"\0" * 1000, b"POST /v1/traces HTTP/1.1\r\nContent-Length: 99\r\n\r\nabc",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 300_000,
    ):  # fmt: skip
        client = socket.create_connection(("127.0.0.1", port))
        with suppress(OSError):
            client.sendall(sent)
        silent.append(client)
    assert requests.get(f"{where}/healthz", timeout=PATIENCE_S).status_code == 200
    for client in silent:
        client.close()


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("10.0.0.1:1", False)],
)  # fmt: skip
def test_which_addresses_are_this_machines_own(listen: str, loopback: bool) -> None:
    """Loopback is 127/8 and ::1, by number or by name."""
    assert all(address.loopback is loopback for address in addresses(listen))


@pytest.mark.parametrize(
    "listen", ["", "4318", ":4318", "a:b", "::1:4318", "127.0.0.1:99999", "no such:1", "x.invalid:1"]
)
def test_what_is_no_address(listen: str) -> None:
    """Everything else is refused by name."""
    with pytest.raises(CannotListen):
        addresses(listen)
