"""aiohttp, as server and as client."""

from __future__ import annotations

import pytest

from apps.stage import CALL, COMPUTE, App, Expected, Stage

TEXT = """
import asyncio, sys
import aiohttp
from aiohttp import web
import cases

async def await_(request):
    await asyncio.sleep(0.3)
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
app.add_routes([web.get(f"/{f.__name__.strip('_')}", f) for f in (await_, compute, call, stream, fail)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.mark.apps
def test_aiohttp(stage: Stage) -> None:
    """Each case of an aiohttp server is told with its cause and its line."""
    cases = {"await": Expected("app.blocked", "await_"), "compute": COMPUTE, "call": CALL}
    stage.play(App("aiohttp", TEXT, "{python} app.py {port}", cases, ("aiohttp",)))
