"""`layerline doctor`: each check finds its fault and names a cure; the exit code says whether something is wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import layerline.checks.distro
import layerline.checks.docker
import layerline.checks.instrumented
from layerline.commands import doctor
from layerline.doctor import ADVICE, OK, PROBLEM, UNKNOWN, Check, Context, Finding, checks, examine
from layerline.uninstrumented import Found
from waiting import PATIENCE_S

CHECKS = {name: check for name, check in checks() if isinstance(check, Check)}
CONTAINER = "5" * 64


class FakeServer:
    """Answers what a test says, by path; 404 else."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.ahead_s = 0.0
        self.exact_ahead_s: float | None = None
        self.seen: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization")))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = outer.answers.get(self.path.partition("&")[0], (404, {}))
                content = json.dumps(body).encode()
                self.send_response_only(status)
                if outer.exact_ahead_s is not None:
                    now_ns = time.time_ns() + round(outer.exact_ahead_s * 1e9)
                    self.send_header("Layerline-Clock", f"{now_ns};{now_ns}")
                self.send_header("Date", formatdate(time.time() + outer.ahead_s, usegmt=True))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def healthy(self) -> None:
        """A server that is ready, takes spans, and sees one container that sends."""
        process = {"id": "p", "runs_on": {"type": "container", "id": CONTAINER}}
        container = {"id": CONTAINER, "name": "web", "ended": None}
        self.answers = {
            "/healthz": (200, {"status": "ok"}),
            "/readyz": (200, {"status": "ready"}),
            "/v1/traces": (200, {}),
            "/api/v1/entities?type=container": (200, {"items": [container], "next": None}),
            "/api/v1/entities?type=process": (200, {"items": [process], "next": None}),
        }


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.healthy()
    thread = threading.Thread(target=fake.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()
    thread.join()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine where nothing is wrong: cgroup v2, one container, pressure, delay accounting."""
    root = tmp_path / "machine"
    group = root / f"sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope"
    group.mkdir(parents=True)
    for folder in (group, group.parent):
        (folder / "cpu.stat").write_text("usage_usec 1\n")
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory io\n")
    (root / "proc/pressure").mkdir(parents=True)
    for kind in ("cpu", "io", "memory"):
        (root / "proc/pressure" / kind).write_text("some avg10=0 avg60=0 avg300=0 total=0\n")
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/task_delayacct").write_text("1\n")
    return root


@pytest.fixture
def world(server: FakeServer, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A machine, a server and an environment without a fault; a test spoils one thing."""
    monkeypatch.setattr(layerline.checks.instrumented, "installed", lambda: [Found("flask", "x-flask", True)])
    monkeypatch.setattr(layerline.checks.instrumented, "hints", lambda found, disabled: [])
    monkeypatch.setattr(layerline.checks.distro, "entry_points", lambda group: [])
    monkeypatch.setattr(layerline.checks.distro, "has", lambda name: False)
    monkeypatch.setattr(layerline.checks.docker._Connection, "connect", lambda self: _connect(self, tmp_path))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 65536))
    engine = socket.socket(socket.AF_UNIX)
    engine.bind(str(tmp_path / "engine"))
    engine.listen()
    thread = threading.Thread(target=_engine, args=(engine,), daemon=True)
    thread.start()
    yield World(server, machine, tmp_path, monkeypatch, {
        "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "LAYERLINE_SERVER": server.url,
        "LAYERLINE_ENDPOINT": server.url, "LAYERLINE_TOKEN": "s3cret",
    })  # fmt: skip
    with contextlib.suppress(OSError):  # a check that asked it has ended it
        engine.shutdown(socket.SHUT_RDWR)
    thread.join()
    engine.close()


def _connect(connection: Any, folder: Path) -> None:
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(folder / "engine"))


def _engine(listening: socket.socket) -> None:
    try:
        taken, _ = listening.accept()
    except OSError:  # nobody asked
        return
    with taken, listening:
        taken.recv(65536)
        body = b'{"Version": "28.0"}'
        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class World:
    """What a check looks at."""

    def __init__(
        self, server: FakeServer, machine: Path, folder: Path, patch: pytest.MonkeyPatch, environ: dict[str, str]
    ) -> None:
        self.server, self.machine, self.folder, self.patch, self.environ = server, machine, folder, patch, environ

    def settings(self, content: str, mode: int = 0o600) -> None:
        file = self.folder / "layerline.toml"
        file.write_text(content)
        file.chmod(mode)
        self.environ["LAYERLINE_CONFIG"] = str(file)

    def look(self, name: str) -> Finding:
        return CHECKS[name].look(Context(self.environ, root=str(self.machine)))


def answer(path: str, status: int, body: dict[str, Any]) -> Callable[[World], None]:
    return lambda world: world.server.answers.update({path: (status, body)})


def environ(**variables: str) -> Callable[[World], None]:
    return lambda world: world.environ.update(variables)


def patched(module: Any, name: str, value: Any) -> Callable[[World], None]:
    return lambda world: world.patch.setattr(module, name, value)


def raising(problem: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise problem

    return fail


def statvfs(**changed: int) -> Callable[[str], Any]:
    usual = {"f_bavail": 10**9, "f_frsize": 4096, "f_flag": 0, "f_files": 1000, "f_favail": 900}
    return lambda path: type("Disk", (), {**usual, **changed})()


def no_file(*parts: str) -> Callable[[World], None]:
    return lambda world: world.machine.joinpath(*parts).unlink()


def v1_only(world: World) -> None:
    (world.machine / "sys/fs/cgroup/cgroup.controllers").unlink()
    (world.machine / "sys/fs/cgroup/memory").mkdir()


def part_of_the_tree(world: World) -> None:
    (world.machine / "proc/1").mkdir()
    line = f"30 20 0:26 /docker/{CONTAINER} /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    (world.machine / "proc/1/mountinfo").write_text(line)


def no_container(world: World) -> None:
    for path in (world.machine / "sys/fs/cgroup/system.slice").iterdir():
        if path.is_dir():
            (path / "cpu.stat").unlink()
            path.rmdir()


def silent_container(world: World) -> None:
    containers = [{"id": CONTAINER, "name": "web", "ended": None}, {"id": "d" * 64, "name": "db", "ended": None}]
    world.server.answers["/api/v1/entities?type=container"] = (200, {"items": containers, "next": None})


ENGINE = layerline.checks.docker._Connection
DISTRO, INSTRUMENTED = layerline.checks.distro, layerline.checks.instrumented
DENIED = PermissionError(errno.EACCES, "Permission denied")
ONE = ["installed, but without spans, as nothing instruments it: redis. To see it: pip install x-redis"]

#: For each check, how it fails: what is spoiled, the state, and words of what was found and of the cure.
FAULTS: list[tuple[str, Callable[[World], None], str, str]] = [
    ("settings", lambda world: world.settings("tokn = 'x'"), PROBLEM, "the nearest is 'token'"),
    ("settings", lambda world: world.settings("token = 'x'", 0o644), PROBLEM, "chmod o-r"),
    ("settings", environ(LAYERLINE_CONFIG="/nowhere/x.toml"), PROBLEM, "No such file"),
    ("docker", patched(ENGINE, "connect", raising(DENIED)), PROBLEM, "usermod -aG docker"),
    ("docker", patched(ENGINE, "connect", raising(ConnectionRefusedError())), PROBLEM, "systemctl"),
    ("docker", patched(ENGINE, "connect", raising(FileNotFoundError())), ADVICE, "-v /var/run"),
    ("docker", environ(DOCKER_HOST="tcp://1.2.3.4:2375"), UNKNOWN, "only a local socket"),
    ("cgroups", no_file("sys/fs/cgroup/cgroup.controllers"), PROBLEM, "no cgroups are mounted"),
    ("cgroups", part_of_the_tree, PROBLEM, "--cgroupns host"),
    ("cgroups", no_container, ADVICE, "no container is seen"),
    ("cgroups", patched(os, "access", lambda path, mode: not str(path).endswith("cpu.stat")), PROBLEM, "as root"),
    ("cgroups", patched(os, "access", lambda path, mode: "docker-" in str(path)), PROBLEM, "system.slice"),
    ("pressure", no_file("proc/pressure/io"), ADVICE, "psi=1"),
    ("pressure", v1_only, ADVICE, "unified"),
    ("delay_accounting", lambda w: (w.machine / "proc/sys/kernel/task_delayacct").write_text("0"), ADVICE, "sysctl -w"),
    ("server", environ(LAYERLINE_SERVER="http://127.0.0.1:1"), PROBLEM, "`layerline up`"),
    ("server", environ(LAYERLINE_SERVER="nonsense"), PROBLEM, "LAYERLINE_SERVER"),
    ("server", answer("/readyz", 401, {}), PROBLEM, "set LAYERLINE_TOKEN"),
    ("server", answer("/readyz", 403, {"detail": "no"}), PROBLEM, "may read"),
    ("server", answer("/readyz", 503, {"detail": "No space left"}), PROBLEM, "No space left"),
    ("server", answer("/readyz", 200, {"hello": "world"}), PROBLEM, "does not answer as Layerline"),
    ("server", answer("/readyz", 200, {"status": "ready", "failures": ["x"]}), PROBLEM, "threads of it failed"),
    ("sending", environ(LAYERLINE_ENDPOINT="http://127.0.0.1:1"), PROBLEM, "LAYERLINE_ENDPOINT=URL"),
    ("sending", answer("/v1/traces", 401, {"message": "no"}), PROBLEM, "may write"),
    ("sending", answer("/v1/traces", 404, {}), PROBLEM, "4318"),
    ("clock", lambda world: setattr(world.server, "ahead_s", 90), PROBLEM, "behind the server"),
    ("clock", lambda world: setattr(world.server, "ahead_s", -90), PROBLEM, "ahead of the server"),
    ("clock", lambda world: setattr(world.server, "exact_ahead_s", 90.0), PROBLEM, "s behind the server (±"),
    ("clock", lambda world: setattr(world.server, "exact_ahead_s", -90.0), PROBLEM, "s ahead of the server (±"),
    ("clock", environ(LAYERLINE_SERVER="http://127.0.0.1:1"), UNKNOWN, "did not say"),
    ("containers", silent_container, ADVICE, "no spans come from db; from these they do: web"),
    ("containers", answer("/api/v1/entities?type=container", 200, {"items": []}), ADVICE, "run `layerline agent`"),
    ("containers", answer("/api/v1/entities?type=process", 401, {}), UNKNOWN, "cannot be asked"),
    ("instrumented", patched(INSTRUMENTED, "hints", lambda found, off: ONE), ADVICE, "pip install x-redis"),
    ("distro", environ(OTEL_SDK_DISABLED="true"), PROBLEM, "unset OTEL_SDK_DISABLED"),
    ("distro", environ(OTEL_TRACES_EXPORTER="none"), PROBLEM, "unset OTEL_TRACES_EXPORTER"),
    ("distro", environ(OTEL_PYTHON_DISTRO="aws_distro"), PROBLEM, "OTEL_PYTHON_DISTRO=layerline"),
    ("distro", patched(DISTRO, "has", lambda name: name == "ddtrace"), ADVICE, "ddtrace"),
    ("sampler", environ(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.1"), PROBLEM, "10.00%"),
    ("sampler", environ(OTEL_TRACES_SAMPLER="parentbased_always_off"), PROBLEM, "no request leaves spans"),
    ("sampler", environ(OTEL_TRACES_SAMPLER="jaeger_remote"), UNKNOWN, "its own"),
    ("descriptors", patched(resource, "getrlimit", lambda which: (256, 512)), PROBLEM, "LimitNOFILE"),
    ("descriptors", patched(resource, "getrlimit", lambda which: (1024, 4096)), ADVICE, "at most 4096"),
    ("disk", patched(os, "statvfs", statvfs(f_bavail=1000)), PROBLEM, "0.00 GB left"),
    ("disk", patched(os, "statvfs", statvfs(f_favail=1)), PROBLEM, "inodes left"),
    ("disk", patched(os, "statvfs", statvfs(f_flag=os.ST_RDONLY)), PROBLEM, "LAYERLINE_STORE"),
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_where_nothing_is_wrong_each_check_says_so(name: str, world: World) -> None:
    """Every check passes on a machine, a server and an environment without a fault."""
    if name == "disk":
        world.patch.setattr(os, "statvfs", statvfs())
    found = world.look(name)
    assert (found.state, found.cure) == (OK, ""), found


@pytest.mark.parametrize(("name", "spoil", "state", "words"), FAULTS, ids=[f"{each[0]}-{each[3]}" for each in FAULTS])
def test_each_check_finds_its_fault(
    name: str, spoil: Callable[[World], None], state: str, words: str, world: World
) -> None:
    """One thing is spoiled: its check says so, and what is a fault has a cure."""
    spoil(world)
    found = world.look(name)
    assert found.state == state, found
    assert words in f"{found.found} {found.cure}"
    assert found.cure or state == UNKNOWN


def test_no_check_is_without_a_fault() -> None:
    """A new check needs a test in which it fails."""
    assert {name for name, *_ in FAULTS} == set(CHECKS)


def test_the_token_of_each_program_is_sent(world: World) -> None:
    """Questions carry that of commands that ask, OTLP those of app and agent."""
    world.environ.pop("LAYERLINE_TOKEN")
    world.settings("[ask]\ntoken = 'reads'\n[agent]\ntoken = 'agent'\n[run]\ntoken = 'app'\n")
    for name in ("server", "sending"):
        assert world.look(name).state == OK
    assert world.server.seen == [
        ("/readyz", "Bearer reads"),
        ("/v1/traces", "Bearer app"),
        ("/v1/traces", "Bearer agent"),
    ]


def test_a_check_that_fails_costs_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception is its finding, and the others are made."""
    monkeypatch.setattr(layerline.checks.distro, "entry_points", raising(RuntimeError("boom")))
    found = {name: finding for name, _, finding in examine(Context(world.environ, root=str(world.machine)))}
    assert set(found) == set(CHECKS)
    assert found["distro"].state == UNKNOWN
    assert "RuntimeError: boom" in found["distro"].found


def test_a_bare_install_has_a_doctor() -> None:
    """Without what the extras install every check is made."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(('docker', 'duckdb', 'flask', 'grpc', 'pydantic', 'rich'))\n"
        "from layerline.command import main; sys.exit(main(['doctor', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode in (0, 1), done.stderr
    assert {one["check"] for one in json.loads(done.stdout)["checks"]} == set(CHECKS)
    assert "this check failed" not in done.stdout


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (ADVICE, 0), (UNKNOWN, 0), (PROBLEM, 1)])
def test_the_exit_code_and_the_json(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 where there is a problem; each check is a line with its cure below it, or an object."""
    found = [("a_check", "a check", Finding(state, "found\x1b[31m", "" if state == OK else "cure it"))]
    monkeypatch.setattr(doctor, "examine", lambda context: iter(found))
    assert doctor.main([]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [state, "a", "check", "found\N{REPLACEMENT CHARACTER}[31m"]
    assert lines[1:] == ([] if state == OK else [f"{'':<26} cure: cure it"])
    assert doctor.main(["--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (code == 0)
    assert document["checks"][0]["check"] == "a_check"
