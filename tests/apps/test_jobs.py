"""Queues and schedulers that OpenTelemetry has no instrumentation for: their jobs open a span themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.redis_server import redis_server
from apps.stage import CALL, COMPUTE, CONSUMER, LOCK, SLEEP, App, Expected, Stage

#: What `docs/APPS.md` advises: a span around each job. Here it joins the trace of what handed it in.
JOB = """
import asyncio, functools, inspect, sys, time
import requests
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind
import cases

tracer = trace.get_tracer("jobs")

def job(function):
    def span(traceparent):
        context = propagate.extract({"traceparent": traceparent})
        return tracer.start_as_current_span(function.__name__, context, SpanKind.CONSUMER)

    @functools.wraps(function)
    def run(traceparent):
        with span(traceparent):
            return function()

    @functools.wraps(function)
    async def run_async(*arguments):
        with span(arguments[-1]):
            return await function()

    return run_async if inspect.iscoroutinefunction(function) else run
"""

FUNCTIONS = """
@DECORATOR
@job
def sleep():
    cases.nap()

@DECORATOR
@job
def compute():
    cases.burn()

@DECORATOR
@job
def lock():
    cases.hold()
    cases.wait_for_lock()

@DECORATOR
@job
def call():
    requests.get(cases.SLOW, timeout=60)

@DECORATOR
@job
def fail():
    raise KeyError("no")
"""

SEND = """
import sys
import app
for asked in sys.argv[1:]:
    case, _, traceparent = asked.partition("=")
"""

RQ = FUNCTIONS.replace("@DECORATOR\n", "")
SEND_RQ = (
    """
import redis, rq
queue = rq.Queue(connection=redis.Redis(port=REDIS))
"""
    + SEND
    + """
    queue.enqueue(getattr(app, case), traceparent)
"""
)

DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
dramatiq.set_broker(RedisBroker(host="127.0.0.1", port=REDIS))
""" + FUNCTIONS.replace("@DECORATOR", "@dramatiq.actor(max_retries=0)")
SEND_DRAMATIQ = (
    SEND
    + """
    getattr(app, case).send(traceparent)
"""
)

ARQ = """
import httpx
from arq.connections import RedisSettings

@job
async def await_():
    await asyncio.sleep(0.3)

@job
async def compute():
    cases.burn()

@job
async def call():
    async with httpx.AsyncClient() as client:
        await client.get(cases.SLOW, timeout=60)

@job
async def fail():
    raise KeyError("no")

class WorkerSettings:
    functions = [await_, compute, call, fail]
    redis_settings = RedisSettings(port=REDIS)
    poll_delay = 0.05
    max_tries = 1
"""
SEND_ARQ = """
import asyncio, sys
import arq, app

async def main():
    pool = await arq.create_pool(app.WorkerSettings.redis_settings)
    for asked in sys.argv[1:]:
        case, _, traceparent = asked.partition("=")
        await pool.enqueue_job("await_" if case == "await" else case, traceparent)

asyncio.run(main())
"""

# A scheduler has no queue: a page that leaves no span lets it begin a job at once.
APSCHEDULER = (
    FUNCTIONS.replace("@DECORATOR\n", "")
    + """
from http.server import BaseHTTPRequestHandler, HTTPServer
from apscheduler.schedulers.background import BackgroundScheduler

scheduler = BackgroundScheduler()
scheduler.start()

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        case = self.path[1:]
        scheduler.add_job(globals()[case], args=[self.headers["traceparent"]])
        self.send_response(500 if case == "fail" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
)

CASES = {"sleep": SLEEP, "compute": COMPUTE, "lock": LOCK, "call": CALL}
AWAIT = {"await": Expected("app.blocked", "await_"), "compute": COMPUTE, "call": CALL}
QUEUES = [
    App("rq", RQ, "{bin}/rq worker --url redis://127.0.0.1:REDIS", CASES, ("rq",), send=SEND_RQ, ready="Listening on"),
    App(
        "dramatiq", DRAMATIQ, "{python} -m dramatiq app --processes 1 --threads 2 -v", CASES, ("dramatiq",),
        send=SEND_DRAMATIQ, ready="is ready for action",
    ),
    App(
        "arq", ARQ, "{bin}/arq app.WorkerSettings", AWAIT, ("arq",), send=SEND_ARQ, ready="Starting worker"
    ),
    App("apscheduler", APSCHEDULER, "{python} app.py {port}", CASES, ("apscheduler",)),
]  # fmt: skip


@pytest.mark.apps
@pytest.mark.parametrize("app", QUEUES, ids=lambda app: app.name)
def test_jobs(stage: Stage, app: App) -> None:
    """A job with a span of its own is a request, measured, and each case is told with its cause and its line."""
    with redis_server(stage.folder) as port:
        texts = {name: getattr(app, name).replace("REDIS", str(port)) for name in ("text", "command", "send")}
        texts["text"] = JOB + texts["text"]
        notes = "a span around each job"
        stage.play(replace(app, **texts, kind=CONSUMER, streams=False, notes=notes))
