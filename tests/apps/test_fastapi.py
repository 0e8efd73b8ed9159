"""FastAPI, Starlette and Litestar on the servers of ASGI."""

from __future__ import annotations

import pytest

from apps.servers import ASGI, Server, app
from apps.stage import CALL, COMPUTE, LOCK, SLEEP, Expected, Stage

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

def lock(request):
    cases.hold()
    cases.wait_for_lock()
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

PAGES = (sleep, compute, lock, await_, call, stream, fail)
app = Starlette(routes=[Route(f"/{f.__name__.strip('_')}", f) for f in PAGES])
"""

LITESTAR = """
import asyncio
import httpx
from litestar import Litestar, get
from litestar.plugins.opentelemetry import OpenTelemetryPlugin
from litestar.response import Stream
import cases

@get("/sleep", sync_to_thread=True)
def sleep() -> str:
    cases.nap()
    return "ok"

@get("/lock", sync_to_thread=True)
def lock() -> str:
    cases.hold()
    cases.wait_for_lock()
    return "ok"

@get("/compute")
async def compute() -> str:
    cases.burn()
    return "ok"

@get("/await")
async def await_() -> str:
    await asyncio.sleep(0.3)
    return "ok"

@get("/call")
async def call() -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(cases.SLOW, timeout=60)).text

@get("/stream")
async def stream() -> Stream:
    async def pieces():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield "x"
    return Stream(pieces())

@get("/fail")
async def fail() -> None:
    raise KeyError("no")

app = Litestar([sleep, compute, lock, await_, call, stream, fail], plugins=[OpenTelemetryPlugin()])
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


@pytest.mark.apps
@pytest.mark.parametrize("server", ASGI.values(), ids=lambda server: server.name)
def test_fastapi(stage: Stage, server: Server) -> None:
    """Verdicts are the same for plain and for async endpoints, on every server.

    So they are behind a middleware that runs them in tasks of their own, on gunicorn's uvicorn worker.
    """
    text = BEHIND if server.name == "uvicorn-worker" else FASTAPI
    stage.play(app("fastapi", server, text, "app:app", CASES))


@pytest.mark.apps
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
@pytest.mark.parametrize(
    ("framework", "text"), [("starlette", STARLETTE), ("litestar", LITESTAR)], ids=("starlette", "litestar")
)
def test_others(stage: Stage, framework: str, text: str, name: str) -> None:
    """Starlette without FastAPI, and Litestar with the plugin that it brings along."""
    cases = {"sleep": SLEEP, "compute": COMPUTE, "lock": LOCK, "await": AWAIT, "call": CALL}
    # Litestar answers in place of an exception before its own instrumentation sees it: only the status is known.
    fails = "HTTP 500" if framework == "litestar" else "KeyError"
    stage.play(app(framework, ASGI[name], text, "app:app", cases, fails=fails))
