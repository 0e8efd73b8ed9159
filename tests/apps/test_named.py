"""What an app has installed and nothing instruments is named, with what changes it."""

from __future__ import annotations

import subprocess

import pytest

from apps.stage import PYTHON, App, Stage, environment

#: What a bare install of Layerline says where all libraries of this folder are there, and no package for them is.
BARE = """
import re
from importlib.metadata import requires
from layerline import uninstrumented as u

brought = {u.name_of(each) for each in requires("layerline") if "extra ==" not in each}
there = u.has
u.has = lambda name: there(name) and (not name.startswith("opentelemetry-instrumentation-") or name in brought)
print(*u.hints(u.look()), sep="\\n")
"""
WITH_PIP = (
    "aiohttp-client",
    "aiohttp-server",
    "asyncpg",
    "botocore",
    "celery",
    "django",
    "fastapi",
    "grpc",
    "sqlalchemy",
    "tornado",
)
BY_HAND = ("apscheduler", "arq", "dramatiq", "rq", "litestar")


@pytest.mark.apps
def test_what_is_missing_is_named(stage: Stage) -> None:
    """Without any package for them, each library of these apps is named, with the command or what to do."""
    nothing = App("bare", "", "", {}, ())
    said = subprocess.run(
        [PYTHON, "-c", BARE], env=environment(nothing, stage.url), capture_output=True, text=True, check=True
    )
    installed, by_hand = said.stdout.splitlines()
    assert installed.startswith("installed, but without spans, as nothing instruments it: ")
    for name in WITH_PIP:
        assert f"opentelemetry-instrumentation-{name}==" in installed, name
    for name in BY_HAND:
        assert name in by_hand, name
    assert "layerline docs apps" in by_hand
