"""What a demo container sees: an almost empty image, and the machine's own programs bound read-only into it.

Nothing is pulled. The image holds a few folders and links; ``/usr``, the Python prefix, the virtual environment and the
sources of an editable install are the machine's own, at the same paths, so that ``sys.executable`` runs unchanged.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: Programs and libraries. On a merged-usr machine most are links into /usr, and stay links in the image.
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store")
#: What the loader and the interpreter look up: never passwords, keys or the machine's own configuration.
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
#: Folders that anyone may write to inside a container. A volume mounted there takes over their mode.
WRITABLE = ("tmp", "journal", "store")
PACKAGES = ("layerline", "layerline_agent", "layerline_correlator", "layerline_api")


@dataclass(frozen=True, slots=True)
class Root:
    """The plan of a root file system."""

    links: dict[str, str]
    """Links in the image: path to target, as they are on the machine."""
    binds: tuple[Path, ...]
    """The machine's paths, bound read-only at the same paths, none inside another."""


def plan(paths: Iterable[Path], system: Iterable[str] = (*SYSTEM_FOLDERS, *SYSTEM_FILES)) -> Root:
    """The root file system for the machine's system folders and further ``paths``; what does not exist is left out."""
    links: dict[str, str] = {}
    binds: list[Path] = []
    for path in map(Path, system):
        if path.is_symlink() and path.is_dir():
            links[str(path)] = os.readlink(path)
        elif path.exists():
            binds.append(path)
    return Root(links, outermost((*binds, *(path for path in paths if path.exists()))))


def outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths without those that lie inside another, in order."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), str(path))):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)


def interpreter_paths() -> tuple[Path, ...]:
    """Everything this interpreter and its environment need to run and to import Layerline.

    The prefixes are taken as they are written and resolved, because some installers (uv, pyenv) put links in between;
    every link that ``sys.executable`` goes through is taken too.
    """
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.base_exec_prefix)]
    return (
        *prefixes,
        *(prefix.resolve() for prefix in prefixes),
        *hops(Path(sys.executable)),
        *import_paths(),
        *source_roots(),
    )


def hops(path: Path) -> Iterator[Path]:
    """A path and what it links to, link by link."""
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
        yield path


def import_paths() -> list[Path]:
    """The environment's own import path: without the current folder and PYTHONPATH, which a container has not."""
    command = [sys.executable, "-I", "-c", "import sys; print('\\n'.join(sys.path))"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [Path(line) for line in lines if line]


def source_roots() -> list[Path]:
    """The folders that hold Layerline's packages: those of an editable install are on no import path."""
    specs = [find_spec(package) for package in PACKAGES]
    return [Path(spec.origin).resolve().parent.parent for spec in specs if spec is not None and spec.origin]


def archive(root: Root, uid: int, gid: int) -> bytes:
    """The image: a tar of folders, links and three small files of ``/etc``."""
    files = {
        "etc/passwd": f"root:x:0:0:root:/tmp:/bin/sh\ndemo:x:{uid}:{gid}:demo:/tmp:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
        "etc/group": f"root:x:0:\ndemo:x:{gid}:\n",
        "etc/nsswitch.conf": "hosts: files dns\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in {"etc": 0o755, "proc": 0o555, "sys": 0o555, "dev": 0o755}.items():
            tar.addfile(_folder(folder, mode))
        for folder in WRITABLE:
            tar.addfile(_folder(folder, 0o1777))
        for path, target in root.links.items():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _folder(name: str, mode: int) -> tarfile.TarInfo:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, mode
    return folder
