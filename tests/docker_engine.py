"""A reachable Docker Engine for tests, or a visible reason why not.

A test that needs one is marked ``docker`` and takes the fixture ``docker_engine``::

    from docker_engine import docker_engine  # noqa: F401 - a fixture

    @pytest.mark.docker
    def test_…(docker_engine: docker.DockerClient) -> None: …

Without an engine such a test is skipped and says why; with ``CI=true`` it fails, because there the engine is part of
what is tested (``.ci/run`` starts one).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest
from docker.errors import DockerException
from requests.exceptions import RequestException


def connect() -> docker.DockerClient:
    """A client of an engine that answers. DockerException or RequestException where none does."""
    client = docker.from_env(timeout=60)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


def require_engine() -> docker.DockerClient:
    """A client, which the caller closes; otherwise the test is skipped, or fails on CI."""
    try:
        return connect()
    except (DockerException, RequestException, OSError) as problem:
        reason = f"no Docker Engine answers: {problem}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: not skipped)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """The engine of this machine, for the whole session."""
    client = require_engine()
    yield client
    client.close()
