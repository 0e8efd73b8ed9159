"""One server and one agent for all live tests: each test brings its own container and its own service name."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.demo import engine, layout
from layerline_api.demo.containers import Containers
from layerline_api.demo.processes import Processes
from layerline_api.demo.watching import Watching
from live.experiment import Live


@pytest.fixture(scope="session")
def live(docker_engine: docker.DockerClient) -> Iterator[Live]:  # noqa: F811 - that fixture
    """A place of containers with a server in it, and an agent on the machine."""
    cores = layout.here()
    if cores.subject is None:
        pytest.skip("one core only: what measures would disturb what is measured")
    with Containers(docker_engine) as place, Processes() as machine:
        engine.probe(place)
        watching = Watching(place, machine, cores)
        watching.open_server()
        watching.open_agent()
        yield Live(place, watching, cores)
        watching.check()
    assert not place.problems


@pytest.fixture(autouse=True)
def beside(live: Live) -> Iterator[None]:
    """The load generator stays off the subject's core during a test, and no longer: other tests want all cores."""
    with layout.staying_on(live.cores.rest):
        yield
