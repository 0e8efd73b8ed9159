"""Completion: what a shell gets to choose from for what was typed so far."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_fake import TRACE, full
from live_server import Live

from layerline.command import commands
from layerline_api.commands import completion
from layerline_correlator.questions.tags import TagKey
from waiting import PATIENCE_S

#: Where scripts of this environment are: the shells' code calls `layerline`.
SCRIPTS = Path(sys.executable).parent


class Shell:
    """Asks as a shell does: each question a process of its own, which argcomplete's protocol ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}

    def __call__(self, line: str) -> list[str]:
        """What is proposed for that line, with the cursor at its end."""
        return self.many([line])[0]

    def many(self, lines: list[str]) -> list[list[str]]:
        """The same for several lines at once."""
        asked = []
        for number, line in enumerate(lines):
            out = self.folder / f"proposed-{number}"
            out.write_text("")
            environment = {
                **os.environ,
                **self.variables,
                "_ARGCOMPLETE": "1",
                "_ARGCOMPLETE_IFS": "\n",
                "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
                "COMP_LINE": line,
                "COMP_POINT": str(len(line.encode())),
                "COMP_TYPE": "9",
            }
            asked.append((out, subprocess.Popen([sys.executable, "-m", "layerline.command"], env=environment)))
        for _, process in asked:
            assert process.wait(PATIENCE_S) == 0
        return [[one.rstrip() for one in out.read_text().split("\n") if one] for out, _ in asked]


@pytest.fixture
def proposed(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_commands_are_completed(proposed: Shell) -> None:
    """Every command is proposed, and those that begin as typed."""
    assert set(proposed("layerline ")) >= set(commands())
    assert set(proposed("layerline co")) == {name for name in commands() if name.startswith("co")}
    assert proposed("layerline nonsense ") == []


def test_a_command_that_is_completed_does_nothing(tmp_path: Path) -> None:
    """Whatever the command, its options are proposed and it does not run."""
    code = (
        "import importlib, os, sys\n"
        "from layerline.command import commands, main\n"
        "for command in commands().values():\n"
        "    importlib.import_module(command.module)\n"
        "for name in commands():\n"
        "    line = f'layerline {name} --'\n"
        "    os.environ |= dict(_ARGCOMPLETE='1', COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE='9',\n"
        "                       _ARGCOMPLETE_IFS=' ', _ARGCOMPLETE_STDOUT_FILENAME=os.path.join(sys.argv[1], name))\n"
        "    if (child := os.fork()) == 0:\n"
        "        main([])\n"
        "        os._exit(3)\n"
        "    assert os.waitpid(child, 0)[1] == 0, name\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=PATIENCE_S)
    for name in commands():
        assert "--help" in (tmp_path / name).read_text().split(), name


def test_names_come_from_the_server(proposed: Shell, live: Live) -> None:
    """Services, operations, trace ids, incidents, tags and entities are those that the server knows."""
    correlator = full()
    correlator.tag_keys = lambda prefix, limit: [TagKey("image", 1)]  # type: ignore[attr-defined]
    proposed.variables["LAYERLINE_SERVER"] = live(correlator)
    expected = {
        "layerline why --service ": "web",
        "layerline why --service web --operation ": r"GET\ /cart",
        "layerline why 4bf9": TRACE,
        "layerline why --tag im": "image:",
        "layerline docs sq": "sql",
        "layerline timeline --signal container.cpu.thr": "container.cpu.throttled",
    }
    for (line, one), found in zip(expected.items(), proposed.many(list(expected)), strict=True):
        assert one in found, line


def test_no_server_means_no_names(proposed: Shell, free_port: int) -> None:
    """Where no server answers nothing is proposed, and nothing fails."""
    proposed.variables["LAYERLINE_SERVER"] = f"http://127.0.0.1:{free_port}"
    lines = ["layerline why ", "layerline why --tag im", "layerline incidents ", "layerline timeline --entity c"]
    for found in proposed.many(lines):
        assert all(one.startswith("-") for one in found)


def test_bash_completes(tmp_path: Path) -> None:
    """What `layerline completion bash` prints makes bash complete a command and an option."""
    script = (
        'eval "$(layerline completion bash)"\n'
        "complete -p layerline | grep -q _python_argcomplete || exit 3\n"
        "COMP_LINE=$1; COMP_POINT=${#1}; COMP_TYPE=9\n"
        '_python_argcomplete layerline; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script, "bash", line], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert completed("layerline timel") == ["timeline"]
    assert "--operation" in completed("layerline why --op")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The code that a shell has to read registers `layerline`; another shell is refused with exit code 2."""
    assert completion.main([shell]) == 0
    assert "layerline" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        completion.main(["tcsh"])
    assert ended.value.code == 2
