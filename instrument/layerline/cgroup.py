"""Which cgroups this process is in, and the folders that show their meters.

Sources: ``/proc/self/cgroup`` (man 7 cgroups: ``ID:controllers:path``, v2 has ID 0 and no controllers) and
``/proc/self/mountinfo`` (man 5 proc). A path in the first is relative to the root of the hierarchy *as this process's
cgroup namespace shows it*; a mount shows the hierarchy from its own root on. Where the two do not meet, the folder is
out of reach and we say so with None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The name under which the unified hierarchy (v2) goes here: it has no controllers in ``/proc/self/cgroup``.
UNIFIED = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    root: str  # what of the file system is shown here
    point: str  # where it is shown
    kind: str  # file system type
    options: tuple[str, ...]  # of the super block; for cgroup v1 they name the controllers


def parse_paths(text: str) -> dict[str, str]:
    """Controller → path, from ``/proc/self/cgroup``; ``UNIFIED`` is v2. Lines of another shape are skipped."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon or not path.startswith("/"):
            continue
        for controller in controllers.split(",") if number != "0" else [UNIFIED]:
            paths.setdefault(controller, path)
    return paths


def parse_mounts(text: str) -> list[Mount]:
    """The mounts of ``/proc/self/mountinfo``. Lines of another shape are skipped."""
    found = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        place, super_block = left.split(" "), right.split(" ")
        if dash and len(place) >= 6 and len(super_block) >= 3:
            found.append(Mount(_plain(place[3]), _plain(place[4]), super_block[0], tuple(super_block[2].split(","))))
    return found


def _plain(path: str) -> str:
    """Spaces, tabs, newlines and backslashes are written as octal escapes."""
    if "\\" not in path:
        return path
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escaped, character)
    return path


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Where this process stands in each hierarchy, and what of it can be seen."""

    paths: dict[str, str]
    mounts: list[Mount]
    root: Path = Path("/")  # another folder in tests

    @classmethod
    def of_this_process(cls, root: Path = Path("/")) -> Cgroup:
        """Read anew. A file that cannot be read is empty: nothing is known then."""
        proc = root / "proc" / "self"
        return cls(parse_paths(text(proc / "cgroup")), parse_mounts(text(proc / "mountinfo")), root)

    def folder(self, controller: str) -> Path | None:
        """The folder of our own cgroup in that hierarchy; None if out of reach, or if it is the machine's root cgroup.

        The root cgroup's meters are the whole machine's and must never be charged to one process or container.
        """
        return next((folder for _, folder in self.levels(controller)), None)

    def levels(self, controller: str) -> list[tuple[str, Path]]:
        """Our own cgroup in that hierarchy and those above it, as far as they are mounted here: path and folder.

        Empty if our own is out of reach. The machine's root cgroup is never among them; that of a cgroup namespace is,
        under the path ``/``.
        """
        path = self.paths.get(controller)
        if path is None or ".." in path.split("/"):
            return []
        for mount in self.mounts:
            shows = mount.kind == "cgroup2" if controller == UNIFIED else controller in mount.options
            if not shows or mount.kind not in ("cgroup", "cgroup2"):
                continue
            if mount.root == "/":
                below = path
            elif path == mount.root or path.startswith(mount.root + "/"):
                below = path[len(mount.root) :]
            else:
                continue
            point = self.root / mount.point.strip("/")
            parts = [part for part in below.split("/") if part]
            found = []
            for length in range(len(parts), -1, -1):
                folder = point.joinpath(*parts[:length])
                if not folder.is_dir() or is_machine_root(folder):
                    break
                found.append((mount.root.rstrip("/") + "/" + "/".join(parts[:length]), folder))
            if found:
                return [(path.rstrip("/") or "/", folder) for path, folder in found]
        return []

    def sees_machine_root(self) -> bool:
        """Whether some hierarchy is mounted here from the machine's root cgroup on."""
        return any(
            mount.kind in ("cgroup", "cgroup2")
            and mount.root == "/"
            and is_machine_root(self.root / mount.point.strip("/"))
            for mount in self.mounts
        )

    def inode(self) -> int | None:
        """The inode of our own cgroup's folder: v2 if in reach, else that of v1's cpu controller."""
        folder = self.folder(UNIFIED) or self.folder("cpu")
        return folder.stat().st_ino if folder is not None else None


def is_machine_root(folder: Path) -> bool:
    """Whether the folder is a hierarchy's root on the machine.

    By the files that the kernel gives to roots only (v1 ``cgroup.sane_behavior``) or to all but roots (v2
    ``cgroup.events``), not by the path: a cgroup namespace calls its own root ``/`` too.
    """
    if (folder / "cgroup.sane_behavior").exists() or (folder / "release_agent").exists():
        return True
    return (folder / "cgroup.controllers").exists() and not (folder / "cgroup.events").exists()


def text(path: Path) -> str:
    """A file's text; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
