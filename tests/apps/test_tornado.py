"""Tornado on its own server."""

from __future__ import annotations

import pytest

from apps.stage import CALL, COMPUTE, SLEEP, App, Expected, Stage

TEXT = """
import asyncio, sys
import tornado.httpclient, tornado.web
import cases

class Await(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.3)
        self.write("ok")

class Sleep(tornado.web.RequestHandler):
    def get(self):
        cases.nap()
        self.write("ok")

class Await_Lock(tornado.web.RequestHandler):
    async def get(self):
        lock = asyncio.Lock()
        await lock.acquire()
        asyncio.get_running_loop().call_later(0.3, lock.release)
        await lock.acquire()
        self.write("ok")

class Call(tornado.web.RequestHandler):
    async def get(self):
        answer = await tornado.httpclient.AsyncHTTPClient().fetch(cases.SLOW)
        self.write(answer.body)

class Compute(tornado.web.RequestHandler):
    def get(self):
        cases.burn()
        self.write("ok")

class Stream(tornado.web.RequestHandler):
    async def get(self):
        for _ in range(3):
            await asyncio.sleep(0.1)
            self.write("x")
            await self.flush()

class Fail(tornado.web.RequestHandler):
    def get(self):
        raise KeyError("no")

async def main():
    pages = (Sleep, Await, Await_Lock, Call, Compute, Stream, Fail)
    app = tornado.web.Application([(f"/{page.__name__.lower()}", page) for page in pages])
    app.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.apps
def test_tornado(stage: Stage) -> None:
    """Each case of a Tornado app is told with its cause and its line."""
    cases = {
        "sleep": SLEEP,
        "compute": COMPUTE,
        "call": CALL,
        "await": Expected("app.blocked", "Await.get"),
        "await_lock": Expected("app.lock_waited", "Await_Lock.get"),
    }
    stage.play(App("tornado", TEXT, "{python} app.py {port}", cases, ("tornado",)))
