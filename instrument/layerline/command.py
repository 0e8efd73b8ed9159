"""The front door: ``layerline COMMAND …`` finds the command through entry points and hands over.

A command is an entry point of the group ``layerline.commands`` that names a function ``main(argv) -> exit code``. The
front door imports none of them before it is asked for, so that a bare install starts without DuckDB, Flask or Docker,
and says which extra a command needs where it is not installed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from layerline import __version__

#: The extra that installs what a package imports.
EXTRAS = {"layerline_agent": "agent", "layerline_correlator": "server", "layerline_api": "server"}


def commands() -> dict[str, EntryPoint]:
    """The installed commands by name."""
    return {entry.name: entry for entry in sorted(entry_points(group="layerline.commands"), key=lambda e: e.name)}


def summary(entry: EntryPoint) -> str:
    """The first line of the command's module docstring, read without importing the module."""
    package, _, _ = entry.module.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    path = Path(spec.origin).parent.joinpath(*entry.module.split(".")[1:])
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    try:
        doc = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    except OSError:
        return ""
    return (doc or "").partition("\n")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 answered, 1 nothing to answer with, 2 could not ask."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    width = max((len(name) for name in known), default=0)
    parser = argparse.ArgumentParser(
        prog="layerline",
        usage="layerline COMMAND …",
        description="Says which layer made a response slow, to the millisecond.",
        epilog="commands:\n" + "\n".join(f"  {name.ljust(width)}  {summary(entry)}" for name, entry in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"layerline {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="`layerline COMMAND --help` says more")
    options = parser.parse_args(arguments[:1])
    if options.command is None:
        parser.print_help()
        return 2
    entry = known.get(options.command)
    if entry is None:
        print(
            f"layerline: there is no command {options.command!r}; there are: {', '.join(known) or 'none'}",
            file=sys.stderr,
        )
        return 2
    try:
        run = entry.load()
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get(entry.module.partition(".")[0])
        if extra is None or (missing.name or "").startswith("layerline"):
            raise
        print(
            f"layerline {options.command} needs the extra {extra!r}, and {missing.name} is not installed: "
            f"pip install 'layerline[{extra}]'",
            file=sys.stderr,
        )
        return 2
    return int(run(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
