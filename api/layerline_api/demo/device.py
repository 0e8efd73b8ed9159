"""The disk below a folder: the device that a write limit has to name."""

from __future__ import annotations

import os
from pathlib import Path


def disk_below(path: Path, sys_block: Path = Path("/sys/dev/block"), number: str | None = None) -> Path:
    """The whole disk (``/dev/vda``) that holds a folder. OSError says why there is none.

    Source: ``stat(2)``'s device number and ``/sys/dev/block/MAJOR:MINOR``, whose ``partition`` file marks a partition;
    the kernel limits whole disks only. File systems without a disk of their own (tmpfs, overlay, btrfs, ZFS, network)
    have a device number that is no block device. ``number`` replaces the folder's own, for tests.
    """
    device = os.stat(path).st_dev
    name = number or f"{os.major(device)}:{os.minor(device)}"
    entry = (sys_block / name).resolve()
    if not entry.exists():
        raise FileNotFoundError(f"{path} is on no block device ({name})")
    if (entry / "partition").exists():
        entry = entry.parent
    return Path("/dev") / entry.name.replace("!", "/")
