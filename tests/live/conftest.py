"""One server and one agent for all live tests: each test brings its own container and its own service name.

A test says which fault is injected, and takes what came of it::

    @pytest.mark.injects(fault=quota)
    def test_quota(outcome: Outcome) -> None: …
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import docker
import pytest

from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.demo import engine, layout
from layerline_api.demo.containers import Containers
from layerline_api.demo.processes import Processes
from layerline_api.demo.watching import Watching
from live.experiment import Experiment, Live, Outcome


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


@pytest.fixture(scope="module")
def outcomes(live: Live, request: pytest.FixtureRequest) -> Mapping[str, Outcome | Exception]:
    """What comes of the experiments of a file's tests, of those that are to be run.

    The load generator stays off the subject's core meanwhile, and no longer: other tests want all cores.
    """
    experiments = {
        item.name.removeprefix("test_").replace("_", "-"): Experiment(**marker.kwargs)
        for item in request.session.items
        if item.path == request.path and (marker := item.get_closest_marker("injects")) is not None
    }
    with layout.staying_on(live.cores.rest):
        return live.outcomes(experiments)


@pytest.fixture
def outcome(outcomes: Mapping[str, Outcome | Exception], request: pytest.FixtureRequest) -> Outcome:
    """What came of this test's experiment; what prevented it is raised."""
    found = outcomes[request.node.name.removeprefix("test_").replace("_", "-")]
    if isinstance(found, Exception):
        raise found
    return found
