"""A store's folder is its owner's alone: spans hold addresses, statements and names of people."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

_log = logging.getLogger("layerline.store")

#: What a store's folder holds; one that holds something else is not only ours and keeps its mode.
_OURS = ("hot.duckdb", "lock", "probe", "recorded", "sealed")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private(folder: Path) -> None:
    """Make the folder where there is none, and take from others what they may do in it. OSError where it cannot be.

    Files are made for their owner alone from now on, in the whole process: the database makes its log anew at will.
    """
    os.umask(os.umask(0o077) | 0o077)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = os.listdir(folder)
    for name in names:
        if name.startswith(_OURS):
            _tighten(folder / name)
    mode = folder.stat().st_mode
    if not mode & _OTHERS:
        return
    strangers = [name for name in names if not name.startswith(_OURS)]
    if strangers:
        _log.warning(
            "others may look into the folder %s (mode %04o), which keeps its mode because it holds more than the store "
            "(%s, for one); the store's files in it are their owner's alone",
            folder,
            stat.S_IMODE(mode),
            strangers[0],
        )
    else:
        _tighten(folder)


def _tighten(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except OSError as problem:
        _log.warning("others may read %s, and that cannot be changed: %s", path, problem.strerror)
