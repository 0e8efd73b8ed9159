"""When the demo takes containers, when plain processes, and what it says then."""

from __future__ import annotations

import os

import pytest

from layerline_api.demo import engine

HERE = {"OSType": "linux", "KernelVersion": os.uname().release, "CpuCfsQuota": True, "CPUSet": True}


def test_another_machines_engine_is_not_taken() -> None:
    """An engine over the network has not this machine's programs to bind-mount; no connection is even tried."""
    with pytest.raises(engine.NoEngine, match=r"tcp://10\.0\.0\.1:2375 is another machine"):
        engine.connect({"DOCKER_HOST": "tcp://10.0.0.1:2375"})


def test_docker_desktop_is_recognised_by_its_kernel() -> None:
    """Docker Desktop runs a virtual machine of its own: another kernel answers."""
    reason = engine.differs({**HERE, "KernelVersion": "6.6.0-linuxkit", "OperatingSystem": "Docker Desktop"})
    assert reason is not None
    assert "Docker Desktop" in reason
    assert engine.differs(HERE) is None


def test_what_the_engine_cannot_limit_is_a_reason() -> None:
    """Each fault that needs a limit the engine does not have is left out, with the reason."""
    able = engine.abilities({**HERE, "DockerRootDir": "/proc", "CpuCfsQuota": False, "CPUSet": False})
    assert able.quota == "the engine cannot limit CPU time"
    assert able.cpuset == "the engine cannot keep containers on one core"
    assert able.write_limit is not None
    assert "no block device" in able.write_limit
    warned = engine.abilities({**HERE, "Warnings": ["WARNING: No blkio throttle.write_bps_device support"]})
    assert warned.write_limit == "the engine's kernel cannot limit a device's writes"


def test_the_reason_is_the_innermost_one() -> None:
    """Client libraries wrap errors in errors; the one at the bottom says what a person can do."""
    inner = PermissionError(13, "Permission denied")
    outer = RuntimeError("Error while fetching server API version")
    outer.__cause__ = inner
    assert engine.innermost(outer) == "[Errno 13] Permission denied"
