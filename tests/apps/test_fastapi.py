"""FastAPI and Starlette on the servers of ASGI."""

from __future__ import annotations

import pytest

from apps.stage import CALL, COMPUTE, LOCK, SLEEP, App, Expected, Stage

FASTAPI = """
import asyncio
import httpx
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
import cases

app = FastAPI()

@app.get("/sleep")
def sleep():
    cases.nap()

@app.get("/compute")
def compute():
    cases.burn()

@app.get("/lock")
def lock():
    cases.hold()
    cases.wait_for_lock()

@app.get("/await")
async def await_():
    await asyncio.sleep(0.3)

@app.get("/await_compute")
async def await_compute():
    cases.burn()

@app.get("/to_thread")
async def to_thread():
    await asyncio.to_thread(cases.burn)

@app.get("/gather")
async def gather():
    await asyncio.gather(await_(), asyncio.to_thread(str))

@app.get("/await_lock")
async def await_lock():
    lock = asyncio.Lock()
    await lock.acquire()
    asyncio.get_running_loop().call_later(0.3, lock.release)
    await lock.acquire()

@app.get("/call")
async def call():
    async with httpx.AsyncClient() as client:
        return (await client.get(cases.SLOW, timeout=60)).text

@app.get("/stream")
async def stream():
    async def pieces():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield "x"
    return StreamingResponse(pieces())

@app.get("/fail")
async def fail():
    raise KeyError("no")
"""

#: With a middleware that runs each endpoint in a task of its own.
BEHIND = (
    FASTAPI
    + """

class Middleware(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)

app.add_middleware(Middleware)
"""
)

STARLETTE = """
import asyncio
import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
import cases

def sleep(request):
    cases.nap()
    return PlainTextResponse("ok")

async def compute(request):
    cases.burn()
    return PlainTextResponse("ok")

async def await_(request):
    await asyncio.sleep(0.3)
    return PlainTextResponse("ok")

async def call(request):
    async with httpx.AsyncClient() as client:
        return PlainTextResponse((await client.get(cases.SLOW, timeout=60)).text)

async def stream(request):
    async def pieces():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield "x"
    return StreamingResponse(pieces())

async def fail(request):
    raise KeyError("no")

app = Starlette(routes=[Route(f"/{f.__name__.strip('_')}", f) for f in (sleep, compute, await_, call, stream, fail)])
"""

AWAIT = Expected("app.blocked", "await_")
CASES = {
    "sleep": SLEEP,
    "compute": COMPUTE,
    "lock": LOCK,
    "call": CALL,
    "await": AWAIT,
    "await_compute": COMPUTE,
    "await_lock": Expected("app.lock_waited", "await_lock"),
    "to_thread": COMPUTE,
    "gather": AWAIT,
}
UVICORN = "{python} -m uvicorn --log-level warning --port {port} app:app"


@pytest.mark.apps
def test_fastapi_on_uvicorn(stage: Stage) -> None:
    """Endpoints that are plain functions and those that await are told alike."""
    stage.play(App("fastapi-uvicorn", FASTAPI, UVICORN, CASES, ("fastapi", "uvicorn")))


@pytest.mark.apps
def test_fastapi_behind_a_middleware(stage: Stage) -> None:
    """So they are behind a middleware that runs them in tasks of their own, on gunicorn's uvicorn worker."""
    command = "{python} -m gunicorn --no-control-socket -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port} app:app"
    stage.play(App("fastapi-uvicorn-worker", BEHIND, command, CASES, ("fastapi", "gunicorn", "uvicorn-worker")))


@pytest.mark.apps
def test_starlette_on_hypercorn(stage: Stage) -> None:
    """Starlette without FastAPI, on Hypercorn."""
    command = "{python} -m hypercorn -b 127.0.0.1:{port} app:app"
    cases = {"sleep": SLEEP, "compute": COMPUTE, "await": AWAIT, "call": CALL}
    stage.play(App("starlette-hypercorn", STARLETTE, command, cases, ("starlette", "hypercorn")))
