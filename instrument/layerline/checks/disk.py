"""Whether there is room where the server's store and the agent's spool are, and whether they can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from layerline.doctor import OK, PROBLEM, Check, Context, Finding

#: Below this nothing is taken any more before long, in bytes; and below this share of inodes.
LEAST_BYTES, LEAST_INODES_RATIO = 10**9, 0.01


def look(context: Context) -> Finding:
    """The folders as their settings name them; of one that is not there yet, the folder that it would be made in."""
    fine = []
    for what, folder in _folders(context):
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        try:
            disk = os.statvfs(there)
        except OSError as problem:
            return Finding(PROBLEM, f"{what} {folder}: {problem.strerror}", f"make {folder} readable for this user")
        free_bytes = disk.f_bavail * disk.f_frsize
        if disk.f_flag & os.ST_RDONLY or not os.access(there, os.W_OK | os.X_OK):
            cure = f"give it to the user that writes there, or name another folder ({_VARIABLES[what]})"
            return Finding(PROBLEM, f"{what} {folder} cannot be written by this user", cure)
        if free_bytes < LEAST_BYTES:
            cure = f"free some, lower LAYERLINE_RETAIN_BYTES, or name another folder ({_VARIABLES[what]})"
            return Finding(PROBLEM, f"{what} {folder} has {free_bytes / 1e9:.2f} GB left", cure)
        if disk.f_files and disk.f_favail < LEAST_INODES_RATIO * disk.f_files:
            return Finding(
                PROBLEM, f"{what} {folder} has {disk.f_favail} inodes left", "delete small files on that disk"
            )
        fine.append(f"{what} {folder}: {free_bytes / 1e9:.0f} GB free")
    return Finding(OK, "; ".join(fine))


_VARIABLES = {"store": "LAYERLINE_STORE", "spool": "LAYERLINE_SPOOL"}


def _folders(context: Context) -> Iterator[tuple[str, Path]]:
    yield "store", _folder(context.settings("serve"), "LAYERLINE_STORE", "XDG_DATA_HOME", ".local/share", "layerline")
    agent = context.settings("agent")
    if agent.get("LAYERLINE_SPOOL", "").strip().lower() != "off":
        yield "spool", _folder(agent, "LAYERLINE_SPOOL", "XDG_STATE_HOME", ".local/state", "layerline/spool")


def _folder(variables: Mapping[str, str], variable: str, base: str, usual: str, below: str) -> Path:
    if named := variables.get(variable, "").strip():
        return Path(os.path.expanduser(named))
    home = variables.get("HOME") or os.path.expanduser("~")
    return Path(variables.get(base) or Path(home, usual), below)


CHECK = Check(order=140, title="disk", look=look)
