"""Flask on gunicorn's workers, and on waitress."""

from __future__ import annotations

import pytest

from apps.stage import CALL, COMPUTE, LOCK, SLEEP, App, Stage

TEXT = """
import time
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

GUNICORN = "{python} -m gunicorn --no-control-socket -b 127.0.0.1:{port}"
CASES = {"sleep": SLEEP, "compute": COMPUTE, "lock": LOCK, "call": CALL}
APPS = [
    App("flask-gunicorn", TEXT, f"{GUNICORN} app:app", CASES, ("flask", "gunicorn")),
    App("flask-gthread", TEXT, f"{GUNICORN} -k gthread --threads 4 app:app", CASES, ("flask", "gunicorn")),
    App("flask-waitress", TEXT, "{python} -m waitress --listen 127.0.0.1:{port} app:app", CASES, ("flask", "waitress")),
]


@pytest.mark.apps
@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_flask(stage: Stage, app: App) -> None:
    """Each case of a Flask app is told with its cause and its line, whatever serves it."""
    stage.play(app)
