"""aiohttp, as server and as client."""

from __future__ import annotations

import pytest

from apps.stage import CALL, COMPUTE, SLEEP, App, Expected, Stage

TEXT = """
import asyncio, sys
import aiohttp
from aiohttp import web
import cases

async def await_(request):
    await asyncio.sleep(0.3)
    return web.Response(text="ok")

async def sleep(request):
    cases.nap()
    return web.Response(text="ok")

async def await_lock(request):
    lock = asyncio.Lock()
    await lock.acquire()
    asyncio.get_running_loop().call_later(0.3, lock.release)
    await lock.acquire()
    return web.Response(text="ok")

async def compute(request):
    cases.burn()
    return web.Response(text="ok")

async def call(request):
    async with aiohttp.ClientSession() as session, session.get(cases.SLOW) as answer:
        return web.Response(text=await answer.text())

async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await asyncio.sleep(0.1)
        await response.write(b"x")
    await response.write_eof()
    return response

async def fail(request):
    raise KeyError("no")

app = web.Application()
pages = (sleep, await_, await_lock, compute, call, stream, fail)
app.add_routes([web.get(f"/{page.__name__.strip('_')}", page) for page in pages])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.mark.apps
def test_aiohttp(stage: Stage) -> None:
    """Each case of an aiohttp server is told with its cause and its line."""
    cases = {
        "sleep": SLEEP,
        "compute": COMPUTE,
        "call": CALL,
        "await": Expected("app.blocked", "await_"),
        "await_lock": Expected("app.lock_waited", "await_lock"),
    }
    stage.play(App("aiohttp", TEXT, "{python} app.py {port}", cases, ("aiohttp",)))
