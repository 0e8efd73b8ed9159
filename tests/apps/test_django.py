"""Django, with the files that `startproject` makes: they name the settings themselves."""

from __future__ import annotations

import pytest

from apps.servers import ASGI, WSGI, app, has
from apps.stage import CALL, COMPUTE, LOCK, SLEEP, Expected, Stage

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
"""

URLS = """
import asyncio, time
import httpx
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
import cases

def sleep(request):
    cases.nap()
    return HttpResponse("ok")

async def await_(request):
    await asyncio.sleep(0.3)
    return HttpResponse("ok")

async def await_compute(request):
    cases.burn()
    return HttpResponse("ok")

def compute(request):
    cases.burn()
    return HttpResponse("ok")

def lock(request):
    cases.hold()
    cases.wait_for_lock()
    return HttpResponse("ok")

def call(request):
    return HttpResponse(httpx.get(cases.SLOW, timeout=60).text)

def stream(request):
    def pieces():
        for _ in range(3):
            time.sleep(0.1)
            yield "x"
    async def apieces():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield "x"
    return StreamingHttpResponse(apieces() if hasattr(request, "scope") else pieces())

def fail(request):
    raise KeyError("no")

urlpatterns = [
    path(f.__name__.strip("_"), f) for f in (sleep, await_, await_compute, compute, lock, call, stream, fail)
]
"""

ENTRY = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.{0} import get_{0}_application
application = get_{0}_application()
"""

CASES = {
    "sleep": SLEEP,
    "compute": COMPUTE,
    "lock": LOCK,
    "call": CALL,
    "await": Expected("app.blocked", "await_"),
    "await_compute": COMPUTE,
}
FILES = {"site_settings.py": SETTINGS, "urls.py": URLS}


@pytest.mark.apps
@pytest.mark.parametrize("name", ["gunicorn", "uwsgi"])
def test_django_behind_wsgi(stage: Stage, name: str) -> None:
    """Django behind WSGI answers, and each case is told with its cause and its line."""
    if not has(WSGI[name]):
        pytest.skip(f"{name} could not be built")
    stage.play(app("django", WSGI[name], ENTRY.format("wsgi"), "app:application", CASES, files=FILES))


@pytest.mark.apps
@pytest.mark.parametrize("name", ["uvicorn", "granian"])
def test_django_behind_asgi(stage: Stage, name: str) -> None:
    """So it is behind ASGI, where plain views run in threads."""
    # What an `async def` view computes is computed on the loop's thread, while the request's own waits.
    cases = {case: expected for case, expected in CASES.items() if case != "await_compute"}
    stage.play(app("django", ASGI[name], ENTRY.format("asgi"), "app:application", cases, files=FILES))
