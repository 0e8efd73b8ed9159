"""Commands at a real terminal: its width, its colours, its pager; and what was meant by what was typed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from api_fake import TRACE, full
from live_server import Live
from rich.cells import cell_len

from layerline.command import main
from layerline_api.asking import incident_id, trace_id
from layerline_api.commands import store, traces, verdicts
from waiting import PATIENCE_S


def at_a_terminal(arguments: list[str], columns: int, rows: int, **variables: str) -> tuple[int, str]:
    """Exit code and output of a command whose standard input and outputs are a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    command = [sys.executable, "-m", "layerline.command", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # Linux says EIO when the last writer has closed it
            pass
        os.close(ours)
        return process.wait(PATIENCE_S), said.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_an_answer_is_as_wide_as_the_terminal(live: Live) -> None:
    """In 110 columns lines are longer than 80 and no longer than 110, in colours."""
    code, said = at_a_terminal(["why", TRACE, "--server", live(full())], 110, 500)
    assert code == 0
    assert "\x1b[" in said
    widths = [cell_len(line) for line in plain(said).splitlines()]
    assert 80 < max(widths) <= 110


def test_a_long_answer_is_shown_by_the_pager(live: Live, tmp_path: Path) -> None:
    """Where the answer has more lines than the terminal, PAGER gets it; a short one is printed at once."""
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho THE PAGER\nexec cat\n")
    pager.chmod(0o755)
    where = live(full())
    code, said = at_a_terminal(["why", TRACE, "--server", where], 80, 10, PAGER=str(pager))
    assert code == 0
    assert said.startswith("THE PAGER")
    assert "held back by its CPU limit" in plain(said)
    code, said = at_a_terminal(["why", TRACE, "--server", where], 80, 200, PAGER=str(pager))
    assert code == 0
    assert "THE PAGER" not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), TRACE),
        (f"http://127.0.0.1:4318/requests/{TRACE}?since=1h", TRACE),
        (f"https://jaeger.example/trace/{TRACE}", TRACE),
        ("https://jaeger.example/trace/7b34da6a3ce929d0", "0" * 16 + "7b34da6a3ce929d0"),
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        ("nonsense", "nonsense"),
    ],
)
def test_a_pasted_address_is_a_trace_id(text: str, expected: str) -> None:
    """The id is taken out of a page's address or a traceparent; what has none stays, for the server to refuse."""
    assert trace_id(text) == expected


def test_commands_take_a_pasted_address(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """`why` and `trace` answer for the address of a page as for the id in it."""
    where = live(full())
    assert verdicts.main([f"{where}/requests/{TRACE}", "--server", where]) == 0
    assert traces.main([f"{where}/requests/{TRACE}", "--server", where]) in (0, 1)
    assert incident_id(f"{where}/incidents/de9952095fd3") == "de9952095fd3"
    assert incident_id("DE9952095FD3") == "de9952095fd3"


def test_a_mistyped_name_is_answered_with_the_one_that_is_close(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options and choices: the message names what was probably meant, and the exit code stays 2."""
    assert main(["incidnets"]) == 2
    assert "did you mean incidents?" in capsys.readouterr().err
    for command, arguments, expected in (
        (verdicts.main, ["--servce", "web"], "did you mean --service?"),
        (verdicts.main, ["--abolute=1"], "did you mean --absolute?"),
        (store.main, ["bakcup", "x"], "did you mean backup?"),
    ):
        with pytest.raises(SystemExit) as ended:
            command(arguments)
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err


def test_a_mistyped_service_is_answered_with_the_one_that_is_close(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is nothing to say of a service that nobody knows, the reason names the one that was meant."""
    correlator = full()
    correlator.over_window = []
    assert verdicts.main(["--service", "wbe", "--server", live(correlator)]) == 1
    assert "did you mean web?" in capsys.readouterr().err
