"""Tornado on its own server."""

from __future__ import annotations

import pytest

from apps.stage import COMPUTE, App, Expected, Stage

TEXT = """
import asyncio, sys
import tornado.web
import cases

class Await(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.3)
        self.write("ok")

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
    app = tornado.web.Application([(f"/{h.__name__.lower()}", h) for h in (Await, Compute, Stream, Fail)])
    app.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.apps
def test_tornado(stage: Stage) -> None:
    """Each case of a Tornado app is told with its cause and its line."""
    cases = {"await": Expected("app.blocked", "Await.get"), "compute": COMPUTE}
    stage.play(App("tornado", TEXT, "{python} app.py {port}", cases, ("tornado",)))
