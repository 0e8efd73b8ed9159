"""The disk that a write limit names."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline_api.demo.device import disk_below


@pytest.fixture
def sys_block(tmp_path: Path) -> Path:
    """/sys/dev/block of a machine with one disk and one partition."""
    disk = tmp_path / "devices/vda"
    (disk / "vda1").mkdir(parents=True)
    (disk / "vda1/partition").write_text("1\n")
    block = tmp_path / "block"
    block.mkdir()
    (block / "254:0").symlink_to(disk)
    (block / "254:1").symlink_to(disk / "vda1")
    return block


@pytest.mark.parametrize("number", ["254:0", "254:1"])
def test_a_partition_is_limited_at_its_disk(sys_block: Path, number: str) -> None:
    """The kernel limits whole disks, so a folder on a partition names the disk below."""
    assert disk_below(Path("/"), sys_block, number) == Path("/dev/vda")


def test_a_file_system_without_a_disk_is_said(sys_block: Path) -> None:
    """tmpfs, overlay and btrfs have a device number that is no disk: the error names it."""
    with pytest.raises(OSError, match="on no block device \\(0:42\\)"):
        disk_below(Path("/"), sys_block, "0:42")
