"""run an app with the wrapper: layerline run -- gunicorn app:app

The command replaces itself with CMD (same pid, same signals, same exit code). CMD's Python processes find
OpenTelemetry's ``sitecustomize`` first on their path, which loads the Layerline distro before the app.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from layerline import configuration, guard
from layerline.environment import mend
from layerline.parsing import Parser
from layerline.uninstrumented import hints, look, missing, pinned

#: Programs that run Python code without being called python.
_EMBEDS = ("uwsgi",)
_DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_PYTHON = re.compile(r"(?:python|pypy)[0-9.t]*(?:w|-dbg)?")


def main(argv: Sequence[str] | None = None) -> int:
    """``layerline run [--install] [--] CMD…``

    ``--install`` lets pip install first what instruments the libraries that are there and leave no spans, in the
    environment of this command, in the versions that belong to the OpenTelemetry that is installed.

    Does not return if all is well. Exit code 2 where CMD is missing or cannot be run.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        prog="layerline run",
        usage="layerline run [-h] [--install] [--] CMD …",
        description="Runs CMD with OpenTelemetry spans that carry their thread's own account.",
        epilog="Settings are variables: LAYERLINE_ENDPOINT, LAYERLINE_TOKEN, LAYERLINE_CAPTURE, OTEL_SERVICE_NAME and "
        "every other OTEL_* variable; ours may stand in the settings file (`layerline config`).",
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="first let pip install what instruments the libraries that are installed here and leave no spans",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="a Python program and its arguments")
    asked = parser.parse_args(arguments)
    command = asked.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        print("layerline run: what should be run? Say: layerline run -- CMD …", file=sys.stderr)
        return 2
    executable = shutil.which(command[0])
    if executable is None:
        print(f"layerline run: {command[0]}: no such program on PATH, or it may not be executed", file=sys.stderr)
        return 2
    python = is_python(Path(executable))
    if not python:
        print(
            f"layerline run: {command[0]} is not a Python program; only Python programs that it starts will be traced",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        variables = settled(os.environ)
        mend(variables, _say)
        if asked.install:
            _install(variables.get(_DISABLED, ""))
        if python:
            _hint(variables)
        os.execve(executable, command, environment(variables))  # noqa: S606 - to become CMD is the point
    except OSError as error:
        print(f"layerline run: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 2


def settled(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables, and below them the wrapper's settings of the settings file.

    A file that cannot be used does not keep the app from starting.
    """
    try:
        return dict(configuration.below("run", environ=environ, must=False))
    except Exception as problem:
        _say(f"the settings file is left out: {problem}")
        return dict(environ)


def _say(line: str) -> None:
    print(f"layerline run: {line}", file=sys.stderr, flush=True)


def _install(disabled: str) -> None:
    """Let pip install what is missing. Whether it succeeds or not, CMD is run, and what is still missing is named."""
    try:
        wanted = [each.package for each in missing(look(), disabled)]
        if not wanted:
            return
        with tempfile.NamedTemporaryFile("w", prefix="layerline-", suffix=".txt") as constraints:
            constraints.write("\n".join(pinned()))
            constraints.flush()
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _say(f"installing {', '.join(wanted)}")
            # pip's own lines go to stderr: stdout is the app's.
            done = subprocess.run([*pip, "-c", constraints.name, *wanted], stdout=sys.stderr, check=False)
        importlib.invalidate_caches()
        if done.returncode != 0:
            _say(f"pip could not install it (exit code {done.returncode}); the app runs without")
    except Exception as problem:
        _say(f"nothing could be installed: {problem!r}; the app runs without")


def _hint(environ: dict[str, str]) -> None:
    """Say what of the app will leave no spans. It is looked for where this command is installed, as CMD mostly is."""
    if environ.get("LAYERLINE_HINTS", "").strip().lower() == "off":
        return
    try:
        for line in hints(look(), environ.get(_DISABLED, "")):
            itself = ", or `layerline run --install`" if "pip install" in line else ""
            _say(f"{line}{itself} (LAYERLINE_HINTS=off hides this)")
    except Exception:
        guard.failed("run.hint")


def environment(environ: dict[str, str], cwd: str | None = None) -> dict[str, str]:
    """The variables that CMD gets: what ``opentelemetry-instrument`` sets, with our distro selected.

    The folder of OpenTelemetry's ``sitecustomize`` comes first on PYTHONPATH, then the current folder if it was not
    there, then what was there.
    """
    # Found, not imported: a variable that is wrong keeps it from being imported.
    auto = importlib.util.find_spec("opentelemetry.instrumentation.auto_instrumentation")
    if auto is None or auto.origin is None:
        raise ModuleNotFoundError("opentelemetry-instrumentation is not installed")
    first = str(Path(auto.origin).parent)
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != first]
    here = os.getcwd() if cwd is None else cwd
    if here not in paths:
        paths.insert(0, here)
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join([first, *paths]),
        "OTEL_PYTHON_DISTRO": "layerline",
        "OTEL_PYTHON_CONFIGURATOR": "layerline",
    }


def is_python(program: Path) -> bool:
    """Whether that file is a Python interpreter or a script for one.

    A script says so on its first line, or on its second where pip had to write ``#!/bin/sh`` and ``'''exec' …python``.
    """
    try:
        with program.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    names = {program.name, Path(os.path.realpath(program)).name}
    if head.startswith(b"\x7fELF"):
        return any(_PYTHON.fullmatch(name) or name in _EMBEDS for name in names)
    if not head.startswith(b"#!"):
        return False
    first, _, rest = head.decode("utf-8", "replace").partition("\n")
    line = rest.partition("\n")[0] if rest.startswith("'''exec'") else first
    return any(_PYTHON.fullmatch(Path(word.strip("'\"")).name) for word in line[2:].split())


if __name__ == "__main__":
    sys.exit(main())
