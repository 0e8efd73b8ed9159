"""A container as Docker describes it: identity and tags, and nothing of its environment."""

from __future__ import annotations

import json

import pytest

from layerline_agent.containers import Container, from_event, from_inspect, image_name, time_ns

from .conftest import HYBRID, HYBRID_ID

INSPECTED = json.loads((HYBRID / "first/docker_inspect.json").read_text())[0]


def test_inspected() -> None:
    """What Docker tells about a container becomes its resource attributes; what it does not have is absent."""
    container = from_inspect(INSPECTED, {"memory": "/somewhere"}, inode=77)
    assert container.started_ns == 1_795_405_970_764_439_571
    assert container.attributes == {
        "container.id": HYBRID_ID,
        "container.name": "cap1",
        "container.image.name": "busybox",
        "container.image.tags": ["local"],
        "container.image.id": "sha256:9e6dc2627afb9ae5ef54ad68082998d8e2f5abaf4f54ab7a4f3045ef2318011e",
        "container.runtime": "docker",
        "layerline.cgroup.inode": 77,
        "layerline.container.networks": ["bridge"],
        "layerline.container.addresses": ["172.17.0.2"],
    }


def test_labels_are_tags() -> None:
    """Each label is an attribute, Compose's among them."""
    labels = {"com.docker.compose.service": "web", "team": "shop"}
    answer = {**INSPECTED, "Config": {**INSPECTED["Config"], "Labels": labels}}
    attributes = from_inspect(answer).attributes
    assert attributes["container.label.com.docker.compose.service"] == "web"
    assert attributes["container.label.team"] == "shop"


def test_environment_is_never_read() -> None:
    """A container's environment holds secrets: no part of it is kept."""
    answer = {**INSPECTED, "Config": {**INSPECTED["Config"], "Env": ["PASSWORD=hunter2"]}}
    assert "hunter2" not in repr(from_inspect(answer))


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("busybox:local", "busybox", "local"),
        ("busybox", "busybox", ""),
        ("registry:5000/shop/web:1.2", "registry:5000/shop/web", "1.2"),
        ("registry:5000/shop/web", "registry:5000/shop/web", ""),
        ("web:1@sha256:" + "a" * 64, "web", "1"),
        ("sha256:" + "a" * 64, "", ""),
        ("", "", ""),
    ],
)
def test_image_names(reference: str, name: str, tag: str) -> None:
    """The name is without tag and digest; a registry's port is no tag."""
    assert image_name(reference) == (name, tag)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T03:52:50.764439571Z", 1_795_405_970_764_439_571),
        ("2026-11-23T04:52:50.7+01:00", 1_795_405_970_700_000_000),
        ("2026-11-23T03:52:50Z", 1_795_405_970_000_000_000),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    """Docker's times keep their nanoseconds; its zero time is unknown."""
    assert time_ns(text) == expected


def test_a_container_known_from_its_event_only() -> None:
    """A container that is gone before it could be asked about has the tags that its event carries."""
    told = {"name": "job-1", "image": "job:7", "exitCode": "3", "team": "shop"}
    attributes = from_event("a" * 64, told).attributes
    assert attributes == {
        "container.id": "a" * 64,
        "container.name": "job-1",
        "container.image.name": "job",
        "container.image.tags": ["7"],
        "container.runtime": "docker",
        "container.label.team": "shop",
    }


def test_a_host_name_that_somebody_chose() -> None:
    """What a container calls itself is told where it is more than the short id."""
    answer = {**INSPECTED, "Config": {**INSPECTED["Config"], "Hostname": "db"}}
    assert from_inspect(answer).attributes["container.hostname"] == "db"
    assert "container.hostname" not in from_inspect(INSPECTED).attributes


def test_walked() -> None:
    """A container found by walking has its id and nothing invented."""
    assert Container("a" * 64).attributes == {"container.id": "a" * 64}
