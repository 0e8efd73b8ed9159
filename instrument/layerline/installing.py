"""What `layerline install` does on a machine with systemd: a user, a unit, a settings file; and how it is undone.

Each step is written down before any is taken, so that ``--dry-run`` shows all of them, contents included.
"""

from __future__ import annotations

import grp
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from layerline.tags import TAG_WORDS

KINDS: Final = ("agent", "server")
USER: Final = "layerline"
UNITS: Final = Path("/etc/systemd/system")
SYSUSERS: Final = Path("/etc/sysusers.d/layerline.conf")
SETTINGS: Final = Path("/etc/layerline/layerline.toml")
#: Folders that a service with ``ProtectHome`` and ``PrivateTmp`` does not see.
HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named to be refused
_TEMPLATES: Final = Path(__file__).parent / "units"
_DOCKER: Final = "docker"


class CannotInstall(Exception):
    """Why it cannot be installed here; the message is for people."""


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this content; ``keep``: not where there is one. It belongs to root and to the service's group."""

    path: Path
    content: str = field(repr=False)
    mode: int = 0o644
    keep: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True)
class Remove:
    """No such file any more."""

    path: Path


@dataclass(frozen=True, slots=True)
class Run:
    """A command; ``may_fail``: what it would undo may be undone already."""

    command: tuple[str, ...]
    may_fail: bool = False


Step = Write | Remove | Run


def program() -> str:
    """The command that a unit starts: the ``layerline`` of this environment. ``CannotInstall``."""
    path = Path(sys.executable).with_name("layerline")
    if not os.access(path, os.X_OK):
        raise CannotInstall(f"{path}: there is no such program; install the wheel into an environment of its own")
    for place in (path, path.resolve(), Path(sys.executable).resolve()):
        if hidden := next((folder for folder in HIDDEN if place.is_relative_to(folder)), None):
            raise CannotInstall(
                f"{place} lies in {hidden}, which the service will not see; use an environment elsewhere: "
                "python3 -m venv /opt/layerline && /opt/layerline/bin/pip install 'layerline[agent]'"
            )
    return str(path)


def unit(kind: str, layerline: str) -> str:
    """The unit file; without Docker's group where the machine has none."""
    text = (_TEMPLATES / f"layerline-{kind}.service").read_text(encoding="utf-8").replace("@LAYERLINE@", layerline)
    try:
        grp.getgrnam(_DOCKER)
    except KeyError:
        return text.replace("SupplementaryGroups=@DOCKER_GROUP@\n", "")
    return text.replace("@DOCKER_GROUP@", _DOCKER)


def settings(
    kind: str, endpoint: str = "", token: str = "", tags: Sequence[str] = (), listen: Sequence[str] = ()
) -> str:
    """The settings file that is written where there is none."""
    lines = ["# Settings of Layerline on this machine; `layerline config` lists all. After a change: systemctl reload."]
    if token:
        lines.append(f"token = {_toml(token)}")
    lines += ["", "[agent]" if kind == "agent" else "[serve]"]
    if endpoint:
        lines.append(f"endpoint = {_toml(endpoint)}")
    if listen:
        lines.append(f"listen = [{', '.join(map(_toml, listen))}]")
    if tags:
        pairs = [tag.partition(":") for tag in tags]
        if wrong := next((tag for tag, (key, _, value) in zip(tags, pairs, strict=True) if not key or not value), None):
            words = ", ".join(word for word in TAG_WORDS if word in ("region", "zone"))
            raise CannotInstall(f"--tag: expected key:value, for example zone:a (words: {words}), found {wrong!r}")
        lines.append(f"tags = {{ {', '.join(f'{_toml(key)} = {_toml(value)}' for key, _, value in pairs)} }}")
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """A text as TOML has it: a basic string."""
    if not text.isprintable():
        raise CannotInstall(f"expected printable text, found {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def install(kind: str, layerline: str, content: str, *, start: bool = True) -> list[Step]:
    """The steps that install it."""
    name = f"layerline-{kind}"
    verb = ("enable", "--now") if start else ("enable",)
    return [
        Write(SYSUSERS, f'u {USER} - "Layerline" /var/lib/layerline\n'),
        Run(("systemd-sysusers", str(SYSUSERS))),
        Write(SETTINGS, content, mode=0o640, keep=True, group=USER),
        Write(UNITS / f"{name}.service", unit(kind, layerline)),
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", *verb, name)),
    ]


def uninstall(kind: str) -> list[Step]:
    """The steps that remove it again. Settings, data and user are kept."""
    name = f"layerline-{kind}"
    return [
        Run(("systemctl", "disable", "--now", name), may_fail=True),
        Remove(UNITS / f"{name}.service"),
        Run(("systemctl", "daemon-reload")),
    ]


def shown(step: Step) -> str:
    """What a step does, for people."""
    match step:
        case Write():
            how = "keep, or write" if step.keep else "write"
            group = f" root:{step.group}" if step.group else ""
            return f"# {how} {step.path} ({step.mode:04o}{group})\n{step.content}"
        case Remove():
            return f"# remove {step.path}"
        case Run():
            return f"# run {' '.join(step.command)}"


def take(step: Step, root: Path = Path("/")) -> str:
    """Take a step below this root; what was done, in one line. ``CannotInstall``."""
    try:
        match step:
            case Write():
                return _write(step, root / step.path.relative_to("/"))
            case Remove():
                (root / step.path.relative_to("/")).unlink(missing_ok=True)
                return f"removed {step.path}"
            case Run():
                done = subprocess.run(step.command, capture_output=True, text=True, check=False)
                if done.returncode and not step.may_fail:
                    said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
                    raise CannotInstall(f"{' '.join(step.command)}: {said}")
                return f"ran {' '.join(step.command)}"
    except OSError as problem:
        raise CannotInstall(f"{problem.filename or step}: {problem.strerror}") from None


def as_root() -> None:
    """``CannotInstall`` where this is not root."""
    if os.geteuid() != 0:
        raise CannotInstall("this needs root: sudo, or --dry-run to see what it would do")


def _write(step: Write, path: Path) -> str:
    if step.keep and path.exists():
        return f"kept {step.path}: it was there before"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(step.content)
    if step.group:
        with suppress(KeyError):  # a root that is not this machine's has no such group
            os.chown(beside, 0, grp.getgrnam(step.group).gr_gid)
    beside.chmod(step.mode)
    beside.replace(path)
    return f"wrote {step.path}"
