"""Celery's worker with its usual pool of processes, and redis between."""

from __future__ import annotations

import pytest

from apps.redis_server import redis_server
from apps.stage import CALL, COMPUTE, CONSUMER, LOCK, SLEEP, App, Stage

TEXT = """
import requests
from celery import Celery
import cases

app = Celery("app", broker="redis://127.0.0.1:REDIS/0")

@app.task
def sleep():
    cases.nap()

@app.task
def compute():
    cases.burn()

@app.task
def lock():
    cases.hold()
    cases.wait_for_lock()

@app.task
def call():
    requests.get(cases.SLOW, timeout=60)

@app.task
def fail():
    raise KeyError("no")
"""

SEND = """
import sys
import app
for asked in sys.argv[1:]:
    case, _, traceparent = asked.partition("=")
    getattr(app, case).apply_async(headers={"traceparent": traceparent})
"""


@pytest.mark.apps
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_celery(stage: Stage, pool: str) -> None:
    """A task is a request, in a process or a thread of the pool, and each case is told with its cause and its line."""
    with redis_server(stage.folder) as port:
        stage.play(
            App(
                f"celery-{pool}",
                TEXT.replace("REDIS", str(port)),
                f"{{python}} -m celery -A app worker --pool {pool} -c 1 --without-mingle --without-gossip -l info",
                {"sleep": SLEEP, "compute": COMPUTE, "lock": LOCK, "call": CALL},
                ("celery", "redis"),
                kind=CONSUMER,
                streams=False,
                send=SEND,
                ready=" ready.",
                notes=f"pool {pool}",
            )
        )
