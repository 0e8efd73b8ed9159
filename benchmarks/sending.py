"""Spans and readings that keep coming to a server, from a process of their own: what measures shares no interpreter.

    python benchmarks/sending.py PORT --rate 1000 --containers 50 --seconds 600

Ends after that time, or when its standard input is closed: that happens when the process that started it ends.
Prints as JSON how many spans the server took, how many bodies had to be sent again, and the median time to an
acknowledgement.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from load import Served
from steady import Sent, send_readings, span_senders


@dataclass(frozen=True, slots=True)
class Taken:
    """What a server took of what was sent."""

    spans: int
    refused: int
    acknowledged_ms: float


@contextlib.contextmanager
def sending(server: Served, rate: int, containers: int, seconds: float) -> Iterator[list[Taken]]:
    """Send inside of the block, for so many seconds at most. The list has what was taken, once the block has ended."""
    taken: list[Taken] = []
    command = [sys.executable, __file__, str(server.port), "--rate", str(rate), "--containers", str(containers)]
    process = subprocess.Popen(
        [*command, "--seconds", str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield taken
    finally:
        try:
            printed, _ = process.communicate(timeout=120)  # closes what it reads, which ends it
            taken.append(Taken(**json.loads(printed)))
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            print("what sends spans did not end in time, or failed", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=int, default=1_000, help="spans a second")
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    server = Served(psutil.Process(os.getpid()), options.port, 0, Path())  # senders look at nothing but the port
    sent, stop = Sent(), threading.Event()
    senders = [
        *span_senders(server, options.rate, sent, stop),
        threading.Thread(target=send_readings, args=(server, options.containers, stop), daemon=True),
    ]
    for sender in senders:
        sender.start()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    stop.wait(options.seconds)
    stop.set()
    for sender in senders:
        sender.join(timeout=60)
    acknowledged_ms = statistics.median(sent.took_s) * 1e3 if sent.took_s else 0.0
    print(json.dumps({"spans": sent.spans, "refused": sent.refused, "acknowledged_ms": acknowledged_ms}))


if __name__ == "__main__":
    main()
