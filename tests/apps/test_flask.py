"""Flask on the servers of WSGI."""

from __future__ import annotations

import pytest

from apps.servers import WSGI, Server, app, has
from apps.stage import CALL, COMPUTE, LOCK, SLEEP, Expected, Stage

TEXT = """
import asyncio, time
import requests
from flask import Flask, Response
import cases

app = Flask("shop")

@app.get("/sleep")
def sleep():
    cases.nap()
    return "ok"

@app.get("/compute")
def compute():
    cases.burn()
    return "ok"

@app.get("/lock")
def lock():
    cases.hold()
    cases.wait_for_lock()
    return "ok"

@app.get("/await")
async def await_():
    await asyncio.sleep(0.3)
    return "ok"

@app.get("/call")
def call():
    return requests.get(cases.SLOW, timeout=60).text

@app.get("/stream")
def stream():
    def pieces():
        for _ in range(3):
            time.sleep(0.1)
            yield "x"
    return Response(pieces())

@app.get("/fail")
def fail():
    raise KeyError("no")
"""

CASES = {
    "sleep": SLEEP,
    "compute": COMPUTE,
    "lock": LOCK,
    "call": CALL,
    "await": Expected("app.blocked", "await_"),
}


@pytest.mark.apps
@pytest.mark.parametrize("server", WSGI.values(), ids=lambda server: server.name)
def test_flask(stage: Stage, server: Server) -> None:
    """Each case of a Flask app is told with its cause and its line, whatever serves it."""
    if not has(server):
        pytest.skip(f"{server.name} could not be built")
    stage.play(app("flask", server, TEXT, "app:app", CASES))
