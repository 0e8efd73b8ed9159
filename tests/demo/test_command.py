"""The command's front: what it says when it cannot run, and what it does when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerline_api.commands import demo as command
from waiting import PATIENCE_S, eventually


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the agent's packages the demo says in one line what to install, and ends with 2."""
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "docker" else object())
    assert command.main([]) == 2
    assert "docker is not installed: pip install 'layerline[agent,server]'" in capsys.readouterr().err


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of the story ends the demo with 130, and neither processes nor files stay."""
    process = subprocess.Popen(
        [sys.executable, "-m", "layerline.command", "demo", "--plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "warming up" in line:
            break
    started = children(process.pid)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said + rest
    assert "everything that was started has been removed" in rest
    assert len(started) >= 4, said
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "their end")
    assert not list(tmp_path.glob("layerline-demo-*"))


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
