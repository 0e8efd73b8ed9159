"""What these suites can be asked for, and the folder in which a server lives until its test has passed.

``--kills N`` (10), ``--minutes N`` (0.5), ``--seed N`` (1, so that short runs draw the same; ``new`` draws another)
and ``--memory 1g`` (none: with it the server runs in a container that is ended when it needs more).
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from real_server import Box, free_ports
from stage import Stage

from docker_engine import require_engine

_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("survival", "crashes and hostile input (tests/survival)")
    group.addoption("--kills", type=int, default=10, help="how often the crash suite kills, in all (default 10)")
    group.addoption("--minutes", type=float, default=0.5, help="how long the hostile suite sends (default 0.5)")
    group.addoption("--seed", help="the same moments and the same input again (default 1; new: others)")
    group.addoption("--memory", help="run the server in a container with this much memory, such as 1g")


def option(config: pytest.Config, name: str) -> Any:
    """An option's value; None also where pytest was started for all tests and read its options before it came here."""
    return config.getoption(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def box(request: pytest.FixtureRequest) -> Iterator[Box | None]:
    """What containers are made of, where ``--memory`` asks for them."""
    if option(request.config, "--memory") is None:
        yield None
        return
    with closing(require_engine()) as client, closing(Box(client)) as made:
        yield made


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> Callable[[float], int]:
    """``kills(0.5)`` is half of all kills, at least one."""
    number = option(request.config, "--kills") or 10
    return lambda share: max(1, round(number * share))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long to send."""
    return 60 * float(option(request.config, "--minutes") or 0.5)


@pytest.fixture
def stage(request: pytest.FixtureRequest, box: Box | None, capfd: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    """A stage of its own. Its seed is printed; its folder is kept where the test fails."""
    seed = option(request.config, "--seed") or "1"
    if seed == "new":
        seed = str(random.randrange(10**6))  # noqa: S311 - not a secret
    folder = Path(tempfile.mkdtemp(prefix="layerline-survival-"))
    made = Stage(folder, seed, free_ports(), box, option(request.config, "--memory"))
    try:
        yield made
    finally:
        for server in made.servers:
            if server.running:
                server.kill()
        failed = request.node.stash.get(_FAILED, True)
        if not failed:
            shutil.rmtree(folder)
        kept = f"; failed: store and log are in {folder}" if failed else ""
        with capfd.disabled():
            print(f"\n  {request.node.name} --seed {seed}: {made.summary()}{kept}")
