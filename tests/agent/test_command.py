"""``layerline agent`` as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layerline_agent.commands.agent import main
from waiting import PATIENCE_S

from .conftest import HYBRID, HYBRID_ID, Sink, attributes_of


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--tag", "region"], "--tag: expected key:value"),
        (["--interval", "soon"], "--interval: expected a duration"),
        (["--endpoint", "nowhere"], "--endpoint: expected an address"),
    ],
)
def test_a_wrong_argument_is_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong argument ends with exit code 2 and one line that names it."""
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"layerline agent: {says}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_life_of_the_agent(sink: Sink, copied: Callable[[Path], Path], number: signal.Signals) -> None:
    """It says what it watches and where it sends, sends with its token, and a signal ends it with exit code 0."""
    root = copied(HYBRID / "first")
    environment = {
        **os.environ,
        "LAYERLINE_HOST_ROOT": str(root),
        "LAYERLINE_TOKEN": "s3cret",
        "DOCKER_HOST": f"unix://{root}/no.sock",
    }
    agent = subprocess.Popen(
        [sys.executable, "-m", "layerline.command", "agent", "--endpoint", sink.url, "--tag", "region:eu"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert sink.wait_for(lambda: len(sink.received) >= 2)
        agent.send_signal(number)
        _, said = agent.communicate(timeout=PATIENCE_S)
    finally:
        agent.kill()
        agent.wait()
    assert agent.returncode == 0
    no_docker, watching = said.splitlines()
    assert "no Docker Engine answers" in no_docker
    assert "1 container (" in watching
    assert "cgroup hybrid" in watching
    assert sink.url in watching
    assert "s3cret" not in said
    assert {got.headers["authorization"] for got in sink.received} == {"Bearer s3cret"}
    resources = [attributes_of(sent.resource) for sent in sink.metrics[0].resource_metrics]
    assert HYBRID_ID in {resource.get("container.id") for resource in resources}
    assert {resource["cloud.region"] for resource in resources} == {"eu"}
