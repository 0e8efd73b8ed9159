"""The front door: ``layerline COMMAND …`` finds the command in its folder and hands over.

A command is a file with a function ``main(argv) -> exit code`` in a folder ``commands`` of one of our packages. The
front door reads these files and imports none before it is asked for, so that a bare install starts without DuckDB,
Flask or Docker, and says which extra a command needs where that is not installed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerline import __version__
from layerline.parsing import Parser, meant

#: Packages that have commands, and the extra that installs what these import; none for a bare install.
EXTRAS = {"layerline": None, "layerline_agent": "agent", "layerline_api": "server"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command as its file tells of it."""

    name: str
    """The file's name, or its ``COMMAND`` where that is another."""
    module: str
    extra: str | None
    about: str
    """The module's docstring: what the command is for."""
    usage: str
    """The docstring of its ``main``: how it is called."""

    @property
    def summary(self) -> str:
        """What it is for, in one line."""
        return self.about.partition("\n")[0]


def commands() -> dict[str, Command]:
    """The commands by name, in alphabetical order. Nothing is imported."""
    return {found.name: found for found in sorted(_commands(), key=lambda found: found.name)}


def _commands() -> Iterator[Command]:
    for package, extra in EXTRAS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for path in Path(spec.origin).parent.glob("commands/*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            main = next((one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "main"), None)
            if main is None:
                continue
            yield Command(
                name=_named(tree) or path.stem,
                module=f"{package}.commands.{path.stem}",
                extra=extra,
                about=ast.get_docstring(tree) or "",
                usage=ast.get_docstring(main) or "",
            )


def _named(tree: ast.Module) -> str | None:
    """The text of ``COMMAND = "…"``; None where there is no such line."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="COMMAND")], value=ast.Constant(value=str(name))):
                return name
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 answered, 1 nothing to answer with, 2 could not ask."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next (`layerline completion`)
        return _complete(known)
    width = max((len(name) for name in known), default=0)
    parser = Parser(
        prog="layerline",
        usage="layerline COMMAND …",
        description="Says which layer made a response slow, to the millisecond.",
        epilog="commands:\n" + "\n".join(f"  {name.ljust(width)}  {one.summary}" for name, one in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"layerline {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="`layerline COMMAND --help` says more")
    options = parser.parse_args(arguments[:1])
    if options.command is None:
        parser.print_help()
        return 2
    command = known.get(options.command)
    if command is None:
        print(
            f"layerline: there is no command {options.command!r}; there are: {', '.join(known) or 'none'}"
            + meant(options.command, known),
            file=sys.stderr,
        )
        return 2
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as missing:
        if command.extra is None or (missing.name or "").startswith("layerline"):
            raise
        print(
            f"layerline {command.name} needs the extra {command.extra!r}, and {missing.name} is not installed: "
            f"pip install 'layerline[{command.extra}]'",
            file=sys.stderr,
        )
        return 2
    return int(module.main(arguments[1:]) or 0)


def _complete(known: Mapping[str, Command]) -> int:
    """Hand over to ``layerline_api.completing``; nothing is proposed where the extra ``server`` is not installed."""
    try:
        completing = importlib.import_module("layerline_api.completing")
    except ModuleNotFoundError:
        return 0
    return int(completing.complete(known))


if __name__ == "__main__":
    sys.exit(main())
