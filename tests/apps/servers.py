"""The servers that apps are tried on: how each is started, and what the table calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.stage import PYTHON, App, Expected

_GUNICORN = "{python} -m gunicorn --no-control-socket -b 127.0.0.1:{port}"
_GRANIAN = "{python} -m granian --host 127.0.0.1 --port {port} --workers-kill-timeout 1 --interface"


@dataclass(frozen=True)
class Server:
    """One way to serve an app; the command ends where ``module:name`` follows."""

    name: str
    command: str
    packages: tuple[str, ...]
    notes: str = ""
    greenlets: bool = False
    """It runs requests in greenlets: their spans say so, and are not measured."""


WSGI = {
    each.name: each
    for each in (
        Server("gunicorn", _GUNICORN, ("gunicorn",)),
        Server("gthread", f"{_GUNICORN} -k gthread --threads 4", ("gunicorn",), "gthread"),
        Server("gevent", f"{_GUNICORN} -k gevent", ("gunicorn", "gevent"), "greenlets: not measured", greenlets=True),
        Server("waitress", "{python} -m waitress --listen 127.0.0.1:{port}", ("waitress",)),
        Server("granian", f"{_GRANIAN} wsgi --blocking-threads 2", ("granian",), "WSGI"),
        Server(
            "uwsgi",
            "{bin}/uwsgi --http-socket 127.0.0.1:{port} --master --processes 2 --enable-threads --py-call-osafterfork"
            " --die-on-term --virtualenv {environment} --module",
            ("uwsgi",),
        ),
    )
}
ASGI = {
    each.name: each
    for each in (
        Server("uvicorn", "{python} -m uvicorn --log-level warning --port {port}", ("uvicorn",)),
        Server("workers", "{python} -m uvicorn --log-level warning --workers 2 --port {port}", ("uvicorn",), "workers"),
        Server("uvicorn-worker", f"{_GUNICORN} -k uvicorn_worker.UvicornWorker", ("gunicorn", "uvicorn-worker")),
        Server("hypercorn", "{python} -m hypercorn -b 127.0.0.1:{port}", ("hypercorn",)),
        Server("granian", f"{_GRANIAN} asgi", ("granian",), "ASGI"),
    )
}


def app(framework: str, server: Server, text: str, entry: str, cases: Mapping[str, Expected], **more: Any) -> App:
    """The app on that server. In greenlets only its calls are known."""
    if server.greenlets:
        cases = {case: expected for case, expected in cases.items() if expected.cause == "dependency.slow"}
        more["reason"] = "greenlet"
    return App(
        f"{framework}-{server.name}",
        text,
        f"{server.command} {entry}",
        cases,
        (framework, *server.packages),
        notes=server.notes,
        **more,
    )


def has(server: Server) -> bool:
    """Whether it is installed: uWSGI is built with a compiler, and left out where there is none."""
    return server.name != "uwsgi" or (PYTHON.parent / "uwsgi").exists()
