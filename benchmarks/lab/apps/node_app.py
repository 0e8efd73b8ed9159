"""How the Node service gets its packages and its command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from layerline_api.demo.place import DemoError

FOLDER = Path(__file__).with_name("node")
#: Containers start with the interpreter; this makes it become another program, with the same process id.
BECOME = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


def node() -> str:
    """The machine's Node. DemoError if there is none."""
    if (found := shutil.which("node")) is None:
        raise DemoError("the Node service needs Node 18.19 or newer on PATH, and there is no program named node")
    return os.path.realpath(found)


def node_modules() -> Path:
    """The packages of ``package-lock.json``, installed by ``npm ci`` if they are not; npm shows its progress."""
    installed, lock = FOLDER / "node_modules", FOLDER / "package-lock.json"
    stamp = installed / ".package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(command, cwd=FOLDER, check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            raise DemoError(f"npm could not install the Node service's packages: {problem}") from problem
        stamp.touch()
    return installed


def node_command(listen: str, folder: str) -> tuple[str, ...]:
    """What follows the interpreter (``Service.command``); bind ``FOLDER`` into the container."""
    return ("-c", BECOME, node(), str(FOLDER / "server.js"), "--listen", listen, "--folder", folder)
