"""What a demo makes on the engine, and that it goes again, whatever ends the demo."""

from __future__ import annotations

import os
import subprocess
import sys

import docker
import pytest

from layerline_api.demo.containers import RUN, Containers, remove_leftovers
from layerline_api.demo.place import Service

pytestmark = pytest.mark.docker

#: Opens a place with a container and a volume, says which, and waits to be killed.
DEMO = """
import docker
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import Service
place = Containers(docker.from_env()).__enter__()
place.start(Service("sleeper", ("-c", "import time; time.sleep(600)"), folder="journal"))
print(place.run, flush=True)
input()
"""


def made_by(client: docker.DockerClient, run: str) -> list[int]:
    """How many containers, networks, volumes and images of a run there are."""
    label = {"label": f"{RUN}={run}"}
    found = (
        client.containers.list(all=True, filters=label),  # type: ignore[arg-type]  # the stubs ask for a wider dict
        client.networks.list(filters=label),
        client.volumes.list(filters=label),
        client.images.list(filters=label),
    )
    return [len(things) for things in found]


def test_nothing_stays(docker_engine: docker.DockerClient) -> None:
    """Containers, network, volume and image of a place are gone when it is closed, even after an error inside."""
    place = Containers(docker_engine)
    with pytest.raises(ZeroDivisionError), place:  # noqa: PT012 - what is made inside is the point
        place.start(Service("sleeper", ("-c", "import time; time.sleep(600)"), folder="journal"))
        assert made_by(docker_engine, place.run) == [1, 1, 1, 1]
        raise ZeroDivisionError
    assert made_by(docker_engine, place.run) == [0, 0, 0, 0]
    assert place.problems == []


def test_a_killed_demo_is_cleaned_up_by_the_next(docker_engine: docker.DockerClient) -> None:
    """What a demo left that was killed is removed by the next one; what a running demo has made is not."""
    command = [sys.executable, "-c", DEMO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        run = demo.stdout.readline().strip()
        try:
            remove_leftovers(docker_engine)
            assert made_by(docker_engine, run) == [1, 1, 1, 1]
        finally:
            demo.kill()
    assert remove_leftovers(docker_engine) == []
    assert made_by(docker_engine, run) == [0, 0, 0, 0]


def test_a_container_sees_this_machines_programs_and_cannot_change_them(docker_engine: docker.DockerClient) -> None:
    """Inside a container this very interpreter runs with this very environment, read-only, as the same user."""
    script = "import os, sys, layerline_api; print(sys.prefix, os.getuid(), os.access(layerline_api.__file__, os.W_OK))"
    with Containers(docker_engine) as place:
        place.start(Service("probe", ("-c", script)))
        place.container("probe").wait(timeout=60)
        prefix, uid, writable = place.output("probe").split()
    assert (prefix, int(uid), writable) == (sys.prefix, os.getuid(), "False")
