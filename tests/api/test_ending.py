"""How commands end when they are told to: `layerline import`, which can be continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from layerline_api.ending import SIGNALS, Stopped, stoppable
from waiting import PATIENCE_S, eventually


def test_the_first_signal_stops_and_the_others_change_nothing() -> None:
    """The block ends by the first signal; on its way out it is not disturbed; afterwards signals are as before."""
    before = [signal.getsignal(number) for number in SIGNALS]
    way_out: list[str] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(PATIENCE_S)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            way_out.append("done")

    with pytest.raises(Stopped) as stopped, stoppable():
        work()
    assert (stopped.value.code, way_out) == (143, ["done"])
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_inside_the_database_stops_too() -> None:
    """DuckDB makes another exception of it; the block ends as told. Other exceptions stay what they are."""

    def work() -> None:
        with suppress(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("Query interrupted")

    with pytest.raises(Stopped), stoppable():
        work()
    with pytest.raises(RuntimeError, match="else"), stoppable():
        raise RuntimeError("something else")


def test_an_import_that_is_stopped_can_be_continued(tmp_path: Path) -> None:
    """SIGTERM, twice, while it reads: one line, 143, nothing aborted; the same command continues to the end."""
    now = time.time_ns() - 10**12
    with (tmp_path / "spans.json").open("w") as file:
        for number in range(200):
            spans = [
                {
                    "traceId": f"{number:032x}", "spanId": f"{number * 1000 + each + 1:016x}", "name": "op",
                    "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 5),
                }
                for each in range(500)
            ]  # fmt: skip
            file.write(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
    command = [sys.executable, "-m", "layerline_api.commands.recorded", "--store", str(tmp_path / "store")]
    process = subprocess.Popen([*command, str(tmp_path / "spans.json")], stderr=subprocess.PIPE, text=True)
    eventually(lambda: (tmp_path / "store/hot.duckdb.wal").exists() or process.poll() is not None)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 143, said
    assert "stopped; run the same command again to continue" in said
    assert "Traceback" not in said
