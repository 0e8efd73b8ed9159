"""What is installed and leaves no spans is named, with the command that changes it."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from opentelemetry.instrumentation.bootstrap_gen import libraries

from layerline import uninstrumented
from layerline.attributes import NOT_INSTRUMENTED, UNINSTRUMENTED
from layerline.commands import run
from layerline.resource import without_spans
from layerline.settings import Settings
from layerline.uninstrumented import Found, hints, look, name_of
from wrapper.conftest import Sink, layerline_run

LISTED = [
    {"library": "Flask >= 1.0", "instrumentation": "opentelemetry-instrumentation-flask==0.66b1"},
    {"library": "aiohttp ~= 3.0", "instrumentation": "opentelemetry-instrumentation-aiohttp-client==0.66b1"},
    {"library": "aiohttp ~= 3.0", "instrumentation": "opentelemetry-instrumentation-aiohttp-server==0.66b1"},
    {"library": "google-cloud-aiplatform >= 1.64", "instrumentation": "opentelemetry-instrumentation-vertexai>=2.0b0"},
    {"library": "fastapi ~= 0.92", "instrumentation": "opentelemetry-instrumentation-fastapi==0.66b1"},
    {"library": "starlette >= 0.13", "instrumentation": "opentelemetry-instrumentation-starlette==0.66b1"},
    {"library": "tortoise-orm >= 0.17.0", "instrumentation": "opentelemetry-instrumentation-tortoiseorm==0.66b1"},
    {"library": "pydantic >= 1.10.2", "instrumentation": "opentelemetry-instrumentation-tortoiseorm==0.66b1"},
    {"library": "psutil >= 5", "instrumentation": "opentelemetry-instrumentation-system-metrics==0.66b1"},
]


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[uninstrumented.Found]:
    monkeypatch.setattr(uninstrumented, "has", lambda name: name in names)
    return look(LISTED)


def test_all_is_instrumented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything that takes requests or makes calls is instrumented, nothing is said."""
    found = installed(monkeypatch, "flask", "opentelemetry-instrumentation-flask", "psutil", "pydantic")
    assert hints(found) == []


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line has the libraries, each once, and what to install, quoted for a shell."""
    names = ("flask", "opentelemetry-instrumentation-flask", "aiohttp", "google-cloud-aiplatform", "starlette")
    (line,) = hints(installed(monkeypatch, *names))
    assert "nothing instruments it: aiohttp, google-cloud-aiplatform, starlette. To see it: pip install " in line
    client, server = (f"opentelemetry-instrumentation-aiohttp-{end}==0.66b1" for end in ("client", "server"))
    assert f"{client} {server} 'opentelemetry-instrumentation-vertexai>=2.0b0'" in line


def test_what_another_brings_along_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI's instrumentation is enough for FastAPI, which stands on Starlette."""
    (line,) = hints(installed(monkeypatch, "opentelemetry-instrumentation-flask", "flask", "fastapi", "starlette"))
    assert "fastapi" in line
    assert "starlette" not in line


def test_what_nothing_instruments_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of queues that OpenTelemetry does not know leave no spans: a line says so, and where to read what to do."""
    names = ("flask", "opentelemetry-instrumentation-flask", "rq", "arq", "litestar")
    (line,) = hints(installed(monkeypatch, *names))
    assert line.startswith("without spans: ")
    assert "arq, rq: OpenTelemetry has no instrumentation for its jobs" in line
    assert "litestar: it brings its own" in line
    found = installed(monkeypatch, *names)
    assert hints(found, "rq,arq,litestar") == uninstrumented.missing(found) == []
    monkeypatch.setattr(uninstrumented, "look", lambda: found)
    assert uninstrumented.described() == {UNINSTRUMENTED: "arq, rq, litestar"}
    assert hints(installed(monkeypatch, *names[:3], "opentelemetry-instrumentation-rq")) == []


def test_nothing_that_takes_requests_is_instrumented(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app without an instrumented framework is told that only its own spans are seen."""
    assert hints(installed(monkeypatch)) == [
        "nothing here that takes requests or jobs is instrumented: only spans that the app makes are seen"
    ]
    assert len(hints(installed(monkeypatch, "flask"))) == 2


def test_who_disabled_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named in ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` is not named again."""
    found = installed(monkeypatch, "flask", "opentelemetry-instrumentation-flask", "aiohttp")
    assert hints(found, "aiohttp_client, aiohttp-server") == []
    assert hints(found, "*") == []


def test_the_server_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource has each library with the package that instruments it, less what somebody disabled or hid."""
    names = ("flask", "opentelemetry-instrumentation-flask", "aiohttp", "psutil")
    found = installed(monkeypatch, *names)
    monkeypatch.setattr(uninstrumented, "look", lambda: found)
    client, server = (f"aiohttp opentelemetry-instrumentation-aiohttp-{end}==0.66b1" for end in ("client", "server"))
    both = {UNINSTRUMENTED: f"{client}, {server}"}
    assert uninstrumented.described() == without_spans(Settings()) == both
    assert uninstrumented.described("aiohttp-client") == {UNINSTRUMENTED: server}
    assert uninstrumented.described("*") == without_spans(Settings(hints="off")) == {}


def test_a_version_that_nothing_instruments_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is too new for its instrumentation is named with both versions, and pip is not asked for it."""
    monkeypatch.setattr(uninstrumented, "version", lambda name: {"sqlalchemy": "2.1.9", "flask": "3.1"}[name])
    assert uninstrumented.unfit("sqlalchemy >= 1.0.0, < 2.1.0").startswith("version 2.1.9 is installed, and ")
    assert uninstrumented.unfit("flask >= 1.0") == ""
    flask = Found("flask", "opentelemetry-instrumentation-flask==0.66b1", True)
    found = [flask, Found("sqlalchemy", "opentelemetry-instrumentation-sqlalchemy==0.66b1", False, "it is too new")]
    assert hints(found) == ["without spans: sqlalchemy: it is too new"]
    monkeypatch.setattr(uninstrumented, "look", lambda: found)
    assert uninstrumented.described() == {NOT_INSTRUMENTED: "sqlalchemy: it is too new"}


def test_the_extra_has_what_opentelemetry_lists() -> None:
    """``layerline[all]`` and a bare install have an instrumentation for each library that OpenTelemetry lists.

    Left out are those that say nothing of requests, and those with versions of their own.
    """
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {name_of(each) for each in (*project["dependencies"], *project["optional-dependencies"]["all"])}
    listed = {name_of(each["instrumentation"]) for each in libraries if each["instrumentation"].count("==")}
    short = {name.removeprefix("opentelemetry-instrumentation-") for name in listed - required}
    assert short <= uninstrumented._BESIDE


def test_pip_installs_what_is_missing_and_touches_no_version(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """``layerline run --install`` asks pip for the packages with OpenTelemetry's own versions held, then runs CMD."""
    found = installed(monkeypatch, "flask", "opentelemetry-instrumentation-flask", "celery", "fastapi")
    monkeypatch.setattr(run, "look", lambda: found)
    asked: list[tuple[list[str], str]] = []
    ran: list[list[str]] = []

    def pip(command: list[str], **_: object) -> SimpleNamespace:
        asked.append((command, Path(command[command.index("-c") + 1]).read_text(encoding="utf-8")))
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(run.subprocess, "run", pip)
    monkeypatch.setattr(run.os, "execve", lambda _, command, __: ran.append(command))
    run.main(["--install", "--", sys.executable, "app.py"])
    ((command, constraints),) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1] == "opentelemetry-instrumentation-fastapi==0.66b1"
    assert f"opentelemetry-sdk=={version('opentelemetry-sdk')}" in constraints.splitlines()
    assert ran == [[sys.executable, "app.py"]]
    assert "pip could not install it (exit code 1); the app runs without" in capfd.readouterr().err


def test_opentelemetry_s_own_list_is_read() -> None:
    """Its entries name libraries and packages in a way that we understand."""
    found = {each.short: each for each in look()}
    assert found["flask"].instrumented
    assert found["flask"].library == "flask"
    assert name_of("aio_pika >= 7.2.0, < 11.0.0") == "aio-pika"


def test_it_is_said_at_the_start(tmp_path: Path, sink: Sink) -> None:
    """``layerline run`` says it once, on stderr. The setting that hides it is what all other tests run with."""
    said = layerline_run("print('ran')", tmp_path, LAYERLINE_ENDPOINT=sink.url, LAYERLINE_HINTS="on").stderr
    (line,) = said.splitlines()
    assert line.startswith("layerline run: installed, but without spans")
    assert "aiohttp" in line
