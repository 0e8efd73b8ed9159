"""The front door and the folders of commands: what is listed, imported, documented and tested."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest

from layerline.command import EXTRAS, Command, commands, main

ROOT = Path(__file__).parent.parent
COMMANDS = commands()
#: What the front door may not need: the packages of the extras.
THIRD_PARTY = ("argcomplete", "docker", "duckdb", "flask", "google.protobuf", "grpc", "pydantic", "requests", "rich")


def files() -> list[Path]:
    """Every file in a folder of commands."""
    found = [path for folder in ROOT.glob("*/*/commands") for path in folder.glob("*.py")]
    return [path for path in found if path.name != "__init__.py"]


@cache
def imported_by_tests() -> set[str]:
    """The modules, and what is taken from them, that tests import."""
    found: set[str] = set()
    for source in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def run(code: str, *arguments: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_file_in_a_folder_of_commands_is_a_command() -> None:
    """What lies there is listed; a helper, which has no ``main``, does not lie there."""
    listed = {f"{path.parent.parent.name}.commands.{path.stem}" for path in files()}
    assert {command.module for command in COMMANDS.values()} == listed
    assert len(COMMANDS) == len(listed), "two commands have one name"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """``layerline --help`` says in a line for each command what it is for."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert command.summary
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", said, re.MULTILINE), name


def test_an_unknown_command_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the names; without any command the help."""
    assert main(["wy"]) == 2
    assert f"there is no command 'wy'; there are: {', '.join(COMMANDS)}" in capsys.readouterr().err
    assert main([]) == 2


def test_the_front_door_imports_no_command() -> None:
    """Listing commands imports no package above the front door, and nothing that an extra installs."""
    code = (
        "import json, sys; from layerline.command import main; main(['wy'])\n"
        "print(json.dumps([name for name in sys.modules if name.startswith(tuple(sys.argv[1:]))]))"
    )
    above = [package for package, extra in EXTRAS.items() if extra]
    assert json.loads(run(code, *above, *THIRD_PARTY, "layerline.commands")) == []


def test_a_bare_install_names_the_extra() -> None:
    """Where its packages are not installed, a command says in one line what to install, and ends with 2."""
    code = (
        "import contextlib, io, json, sys\n"
        "from layerline.command import commands, main\n"
        "sys.modules |= dict.fromkeys(sys.argv[1:])  # None: importing it fails as if it were not there\n"
        "import importlib.util; importlib.util.find_spec, find = (\n"
        "    lambda name, *of: None if name in sys.argv[1:] else find(name, *of)), importlib.util.find_spec\n"
        "said = {}\n"
        "for name, command in commands().items():\n"
        "    if command.extra is not None:\n"
        "        with contextlib.redirect_stderr(io.StringIO()) as err:\n"
        "            said[name] = main([name]), err.getvalue()\n"
        "print(json.dumps(said))"
    )
    said = json.loads(run(code, *THIRD_PARTY))
    assert set(said) == {name for name, command in COMMANDS.items() if command.extra is not None}
    for name, (exit_code, line) in said.items():
        assert exit_code == 2, name
        assert re.fullmatch(rf"layerline {name} .* not installed: pip install 'layerline\[[a-z,]+\]'\n", line), line
        assert re.search(rf"[\[,]{COMMANDS[name].extra}[\],]", line), line


def test_the_extras_exist() -> None:
    """An extra that the front door names can be installed."""
    declared = {extra for line in requires("layerline") or [] for extra in re.findall(r'extra == "(\w+)"', line)}
    assert {extra for extra in EXTRAS.values() if extra} <= declared


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_what_it_is_for_and_how_it_is_called(command: Command) -> None:
    """docs/COMMANDS.md is made from its docstrings: a summary in one line, and ``layerline NAME …``."""
    assert command.summary
    assert command.usage.startswith((f"``layerline {command.name} ", f"``layerline {command.name}``")), command.usage


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_has_a_test(command: Command) -> None:
    """Some test imports its module: none was forgotten."""
    assert any(f"{name}.".startswith(f"{command.module}.") for name in imported_by_tests()), (
        f"no test imports {command.module}"
    )
