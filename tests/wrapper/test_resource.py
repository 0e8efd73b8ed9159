"""What every span says about where it ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerline import guard
from layerline.attributes import BOOT_ID, CGROUP_INODE, CONTAINER_ID, CONTAINER_ID_SOURCE
from layerline.cgroup import Cgroup
from layerline.resource import describe, without
from layerline.settings import Settings

ID = "05387d400547ce9b00e7646fd40636edf59567afb7ceabf3bfb7b838230b118e"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's files: boot id and machine id."""
    for path, text in {"proc/sys/kernel/random/boot_id": "b00t\n", "etc/machine-id": "mach1ne\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_a_process_on_the_machine_names_its_host(machine: Path) -> None:
    """Outside containers the host's id and name are known, and no container is."""
    found = describe(Settings(), Cgroup({"": "/"}, [], machine))
    assert found["process.pid"] == os.getpid()
    assert found[BOOT_ID] == "b00t"
    assert found["host.id"] == "mach1ne"
    assert found["host.name"] == os.uname().nodename
    assert not {CONTAINER_ID, CONTAINER_ID_SOURCE, CGROUP_INODE} & set(found)


def test_a_process_in_a_container_leaves_its_host_to_the_agent(machine: Path) -> None:
    """Inside, the host name is the container's short id and the machine id the image's: neither is sent."""
    found = describe(Settings(), Cgroup({"": f"/docker/{ID}"}, [], machine))
    assert (found[CONTAINER_ID], found[CONTAINER_ID_SOURCE]) == (ID, "cgroup")
    assert "host.id" not in found
    assert "host.name" not in found


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    """An empty machine costs attributes and raises nothing."""
    found = describe(Settings(), Cgroup({}, [], tmp_path))
    assert BOOT_ID not in found
    assert "host.id" not in found


def test_an_override_that_is_no_id_is_said_once(
    machine: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``LAYERLINE_CONTAINER_ID=web-1`` is ignored, with a line that shows it."""
    monkeypatch.setattr(guard, "_said", set())
    for _ in range(2):
        found = describe(Settings(container_id="web-1"), Cgroup({}, [], machine))
    assert CONTAINER_ID not in found
    assert [record.getMessage() for record in caplog.records] == [
        "LAYERLINE_CONTAINER_ID is not 64 hex digits and is ignored: 'web-1'"
    ]


def test_what_the_user_says_wins() -> None:
    """Attributes that the user gave are not given again."""
    assert without({"host.name": "ours", "a": 1}, {"host.name": "theirs"}) == {"a": 1}
