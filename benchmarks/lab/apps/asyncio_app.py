"""The lab's asyncio service: plain ASGI under uvicorn, on one event loop (asyncio's or uvloop's).

``layerline run -- python asyncio_app.py --listen HOST:PORT --folder DIR --loop asyncio``

``GET /cpu?ms= /sleep?ms= /call?url= /write?kib= /db?ms=&n= /victim?ms= /behind?hold= /big?kib= /ready``;
``PUT /hold?ms=&after=``: so many milliseconds after it is answered, the loop is held for ``ms``, once. ``DATABASE_URL``
names the PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import psycopg
import uvicorn
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

STEP_S = 0.005
Query = Mapping[str, str]


def rounds(count: int) -> None:
    """Compute, holding the interpreter lock as ordinary Python does."""
    state = 1
    for _ in repeat(None, count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF


def rounds_per_millisecond(count: int = 400_000) -> float:
    """How many rounds take a millisecond of this thread's CPU time; the best of seven."""

    def once() -> float:
        began = time.thread_time()
        rounds(count)
        return time.thread_time() - began

    return count / min(once() for _ in range(7)) / 1_000


class Routes:
    """What can be asked; each is named after its method and path."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self._folder, self._database = folder, database
        self._per_millisecond = rounds_per_millisecond()
        self._client: httpx.AsyncClient | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[None] | None = None
        self._orders: asyncio.Queue[float] = asyncio.Queue()
        self._computing: asyncio.Task[None] | None = None

    def compute(self, milliseconds: float) -> None:
        """Compute for so much CPU time of this thread, however fast the machine is just now."""
        end = time.thread_time() + milliseconds / 1_000
        while (left := (end - time.thread_time()) * 1_000) > 0:
            rounds(max(1, round(min(left, 5) * self._per_millisecond)))

    async def compute_for_others(self) -> None:
        """A task of the app's own, which belongs to no request: it computes, and all others wait for the loop."""
        while True:
            self.compute(await self._orders.get())

    async def get_ready(self, query: Query) -> bytes:
        return b"ready"

    async def get_cpu(self, query: Query) -> bytes:
        self.compute(float(query["ms"]))
        return b"done"

    async def get_behind(self, query: Query) -> bytes:
        if self._computing is None:
            self._computing = asyncio.create_task(self.compute_for_others(), context=contextvars.Context())
        self._orders.put_nowait(float(query["hold"]))
        await asyncio.sleep(STEP_S)
        return b"done"

    async def get_sleep(self, query: Query) -> bytes:
        await asyncio.sleep(float(query["ms"]) / 1_000)
        return b"done"

    async def get_victim(self, query: Query) -> bytes:
        left = float(query["ms"]) / 1_000
        while left > 0:
            await asyncio.sleep(min(STEP_S, left))
            left -= STEP_S
        return b"done"

    async def get_call(self, query: Query) -> bytes:
        self._client = self._client or httpx.AsyncClient(timeout=30, trust_env=False)
        (await self._client.get(query["url"])).raise_for_status()
        return b"done"

    async def get_write(self, query: Query) -> bytes:
        await asyncio.to_thread(write, self._folder / "own", int(query["kib"]) * 1024)
        return b"done"

    async def get_db(self, query: Query) -> bytes:
        if self._database is None:
            raise RuntimeError("DATABASE_URL is not set, so there is no database to ask")
        milliseconds = float(query.get("ms", 0))
        async with self._turn:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(self._database, autocommit=True)
            for number in range(int(query.get("n", 1))):
                async with self._connection.cursor() as cursor:
                    if milliseconds:
                        await cursor.execute("SELECT pg_sleep(%s / 1000.0)", (milliseconds,))
                    else:
                        await cursor.execute("SELECT 1 + %s", (number,))
        return b"done"

    async def get_big(self, query: Query) -> bytes:
        return b"layerlin" * 128 * int(query["kib"])

    async def put_hold(self, query: Query) -> bytes:
        # From the answer on, within what the loop needs to write it: the task starts before the last await.
        self._holder = asyncio.create_task(hold(float(query.get("after", 0)) / 1_000, float(query["ms"]) / 1_000))
        return b"done"


async def hold(after: float, seconds: float) -> None:
    """Block the loop, as code does that was not written for it."""
    await asyncio.sleep(after)
    time.sleep(seconds)


def write(path: Path, size: int) -> None:
    """Write through to the device."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, os.urandom(1024) * (size // 1024))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_app(folder: Path, database: str | None) -> Callable[..., Awaitable[None]]:
    """The ASGI application; a route that fails is a 500 by the server."""
    routes = Routes(folder, database)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = f"{scope['method'].lower()}_{scope['path'].strip('/')}"
        route = getattr(routes, name, None)
        status, body = (200, await route(dict(parse_qsl(scope["query_string"].decode())))) if route else (404, b"")
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8000")
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    options = arguments.parse_args()
    host, _, port = options.listen.rpartition(":")
    wrapped = OpenTelemetryMiddleware(
        create_app(options.folder, os.environ.get("DATABASE_URL")), exclude_spans=["receive", "send"]
    )
    uvicorn.run(
        wrapped, host=host, port=int(port), loop=options.loop, lifespan="off", access_log=False, log_level="warning"
    )
