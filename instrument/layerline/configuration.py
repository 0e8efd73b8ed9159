"""The settings file: what it may hold, where it is, and which value of a setting is in force.

Precedence: argument, then variable, then file, then default. A file is TOML; its keys are the variables without
``LAYERLINE_``, in lower case. A table ``[serve]``, ``[agent]``, ``[run]`` or ``[ask]`` holds for that program alone,
and goes before the keys outside of tables. One file is read, not several: ``--config``, else ``LAYERLINE_CONFIG``, else
``$XDG_CONFIG_HOME/layerline/layerline.toml``, else ``/etc/layerline/layerline.toml``.

Which settings there are is read from the settings classes, without importing them: a field's docstring begins with
``VARIABLE (default): meaning``. So a bare install knows them all.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

PREFIX: Final = "LAYERLINE_"
FILE_NAME: Final = "layerline.toml"
SYSTEM_FOLDER: Final = Path("/etc/layerline")
CONFIG: Final = "LAYERLINE_CONFIG"
#: Each program, and the classes that hold its settings, as package and class.
PROGRAMS: Final = {
    "run": (("layerline", "Settings"),),
    "agent": (("layerline_agent", "Settings"),),
    "serve": (("layerline_correlator", "Settings"), ("layerline_api", "ServerSettings")),
    "ask": (("layerline_api", "AskSettings"),),
}
#: Settings whose values are shown to nobody.
SECRET: Final = frozenset({"token"})
MASK: Final = "********"
#: OpenTelemetry's variable that holds where ours is not set.
INSTEAD: Final = {"LAYERLINE_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT"}


class BadSettings(ValueError):
    """The settings file cannot be used; the message names file and key, what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as the programs that have it describe it."""

    variable: str
    programs: tuple[str, ...]
    default: str
    """As it is documented: a value in backquotes, or words such as ``none``."""
    meanings: tuple[str, ...]
    """One sentence of each program that means something else by it."""

    @property
    def key(self) -> str:
        """Its name in the file: ``retain_bytes``."""
        return self.variable.removeprefix(PREFIX).lower()


#: Names the file, so it cannot stand in it.
CONFIG_SETTING: Final = Setting(
    CONFIG,
    tuple(PROGRAMS),
    "`$XDG_CONFIG_HOME/layerline/layerline.toml`, else `/etc/layerline/layerline.toml`",
    ("the settings file; `--config` goes before it",),
)


@dataclass(frozen=True, slots=True)
class File:
    """What a settings file says: for all programs, and for each program alone; values as their variable holds them."""

    path: Path
    common: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, program: str) -> dict[str, str]:
        """The variables of one program."""
        mine = {known.variable for known in known_settings().values() if program in known.programs}
        return {name: text for name, text in {**self.common, **self.own.get(program, {})}.items() if name in mine}


@dataclass(frozen=True, slots=True)
class InForce:
    """The value of a setting for some programs, and where it comes from."""

    setting: Setting
    programs: tuple[str, ...]
    value: str | None
    """None where the default holds."""
    origin: str
    """``variable NAME``, the file's path, or ``default``."""

    @property
    def shown(self) -> str:
        """The value for people; what is secret is masked."""
        if self.value is None:
            return self.setting.default.replace("`", "")
        return MASK if self.value and self.setting.key in SECRET else self.value


@cache
def known_settings() -> dict[str, Setting]:
    """Every setting by its key, in alphabetical order."""
    said: dict[str, dict[str, dict[str, None]]] = {}
    for program, classes in PROGRAMS.items():
        for package, name in classes:
            for variable, default, meaning in _fields(package, name):
                of = said.setdefault(variable, {"programs": {}, "defaults": {}, "meanings": {}})
                of["programs"][program] = of["defaults"][default] = of["meanings"][meaning] = None
    found = {
        variable: Setting(variable, tuple(of["programs"]), next(iter(of["defaults"])), tuple(of["meanings"]))
        for variable, of in sorted(said.items())
    }
    return {setting.key: setting for setting in found.values()}


def _fields(package: str, class_name: str) -> Iterator[tuple[str, str, str]]:
    """Variable, default and meaning of the fields of a settings class, read and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    tree = ast.parse((Path(spec.origin).parent / "settings.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != class_name:
            continue
        for before, after in zip(node.body, node.body[1:], strict=False):
            match before, after:
                case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                    text = re.sub(r"\s+", " ", text).replace("``", "`")
                    if match_ := re.fullmatch(r"(LAYERLINE_\w+) \((.*?)\): (.+?)\.?", text):
                        yield match_[1], match_[2], match_[3]


def place(environ: Mapping[str, str] = os.environ, given: Path | str | None = None) -> Path | None:
    """Where the settings file is; None where there is none. A file that was named need not be there."""
    if given or environ.get(CONFIG):
        return Path(given or environ[CONFIG]).expanduser()
    return next((path for path in usual_places(environ) if _is_there(path)), None)


def usual_places(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where a file is looked for when none was named."""
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):
        home = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return [Path(home, "layerline", FILE_NAME), SYSTEM_FOLDER / FILE_NAME]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its folder may not be entered
        return False


def read(path: Path) -> File:
    """What the file says. ``BadSettings`` where it cannot be read or holds what is no setting."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadSettings(f"{path}: cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadSettings(f"{path}: expected TOML: {problem}") from None
    common: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    for key, value in content.items():
        if key in PROGRAMS and isinstance(value, dict):
            own[key] = dict(_checked(path, inner, what, key) for inner, what in value.items())
        else:
            variable, text = _checked(path, key, value)
            common[variable] = text
    return File(path, common, own)


def _checked(path: Path, key: str, value: object, program: str = "") -> tuple[str, str]:
    """The variable of this key and the text that it would hold."""
    known = known_settings()
    where = f"{path}: {f'[{program}] ' if program else ''}{key}"
    setting = known.get(key)
    if setting is None:
        names = [*known, *PROGRAMS] if not program else list(known)
        near = difflib.get_close_matches(key.lower().removeprefix(PREFIX.lower()), names, n=1, cutoff=0.5)
        nearest = f"; the nearest is {near[0]!r}" if near else ""
        raise BadSettings(f"{where}: there is no setting of that name{nearest} (`layerline config` lists all)")
    if program and program not in setting.programs:
        of = ", ".join(setting.programs)
        raise BadSettings(f"{where}: expected a setting of {program}, found one of {of}")
    return setting.variable, _text(where, value)


def _text(where: str, value: object) -> str:
    """A value of TOML as its variable would hold it: a list with commas, a table as ``key:value`` with commas."""
    match value:
        case bool():
            return "on" if value else "off"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(one, str) for one in value):
            return ",".join(value)
        case dict() if where.endswith(("tags", "tags]")) and all(isinstance(one, str) for one in value.values()):
            return ",".join(f"{key}:{one}" for key, one in value.items())
    kinds: dict[type[Any], str] = {dict: "a table", list: "a list of other things"}
    found = kinds.get(type(value), f"a {type(value).__name__}")
    raise BadSettings(f"{where}: expected a text, a number or a list of texts, found {found}")


class Layered(dict[str, str]):
    """An environment with what the file says below it, and where each of that came from."""

    file: File | None = None
    from_file: frozenset[str] = frozenset()

    def explained(self, problem: object) -> str:
        """A message about a variable, with the file that set it."""
        text = str(problem)
        name = text.partition(":")[0]
        return f"{text} (in {self.file.path})" if self.file is not None and name in self.from_file else text


def below(
    program: str,
    given: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    must: bool = True,
) -> Layered:
    """The environment of a program: variables, and below them what the settings file says.

    ``BadSettings`` where the file is wrong. Without ``must``, one in a usual place that this user may not read is as
    none: commands that ask are run by people whom the server's file is none of.
    """
    layered = Layered(environ)
    path = place(environ, given)
    if path is None or (not must and not given and not environ.get(CONFIG) and not os.access(path, os.R_OK)):
        return layered
    layered.file = read(path)
    values = {name: text for name, text in layered.file.of(program).items() if name not in environ}
    layered.from_file = frozenset(values)
    layered.update(values)
    return layered


def in_force(environ: Mapping[str, str] = os.environ, given: Path | str | None = None) -> list[InForce]:
    """Each setting with its value and origin; more than once where programs differ. ``BadSettings``."""
    path = place(environ, given)
    file = read(path) if path is not None else None
    found: list[InForce] = []
    for setting in known_settings().values():
        same: dict[tuple[str | None, str], list[str]] = {}
        for program in setting.programs:
            same.setdefault(_value(setting, program, environ, file), []).append(program)
        found += [InForce(setting, tuple(programs), value, origin) for (value, origin), programs in same.items()]
    return found


def _value(setting: Setting, program: str, environ: Mapping[str, str], file: File | None) -> tuple[str | None, str]:
    if setting.variable in environ:
        return environ[setting.variable], f"variable {setting.variable}"
    if file is not None and setting.variable in (values := file.of(program)):
        return values[setting.variable], str(file.path)
    if (instead := INSTEAD.get(setting.variable)) and environ.get(instead):
        return environ[instead], f"variable {instead}"
    return None, "default"
