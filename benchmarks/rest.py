"""What a quiet machine pays for Layerline: the server and the agent, with one trace a second and 50 containers.

    python benchmarks/rest.py [--containers 50] [--warm-up 60] [--seconds 120]

The server gets a trace of eight spans each second, and the readings of each second of all containers and their machine,
sent as the agent sends them to a server that nobody asks anything. The agent reads a captured machine with so many
containers at its default interval and sends to a sink of its own, which answers like that server. Both are processes of
their own: user and system CPU time over the seconds after the warm-up. Where netdata is installed it runs beside them,
on this machine as it is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import psutil
from load import SHAPE, Served, served
from steady import Sent, send_readings, send_spans

from agent import TREES, grow, serve
from agent import measure as measure_agent
from layerline_agent.settings import Settings

#: Shares of a core: what both together may cost.
GOAL = 0.03
#: What a server that nobody asks says to the agent: how many seconds may lie between two requests.
AT_REST_S = 5


def of_server(containers: int, warm_up_s: float, seconds: float) -> tuple[float, float, dict[str, float]]:
    """Share of a core, largest resident MiB, and how many passes and traces a minute the correlator worked out."""
    sent, stop = Sent(), threading.Event()
    with served() as server:
        senders = [
            threading.Thread(target=send_spans, args=(server, len(SHAPE), sent, stop), daemon=True),
            threading.Thread(target=send_readings, args=(server, containers, stop), daemon=True),
        ]
        for sender in senders:
            sender.start()
        time.sleep(warm_up_s)
        before, traces = worked(server), sent.spans // len(SHAPE)
        began_s, cpu_s = time.monotonic(), server.cpu_s()
        time.sleep(seconds)
        lasted_s = time.monotonic() - began_s
        share, memory = (server.cpu_s() - cpu_s) / lasted_s, server.rss_bytes() / 2**20
        after, traces = worked(server), sent.spans // len(SHAPE) - traces
        stop.set()
        for sender in senders:
            sender.join(timeout=120)
    minute = 60 / lasted_s
    figures = {name: (after[name] - before[name]) * minute for name in after}
    return share, memory, figures | {"received traces": traces * minute}


def worked(server: Served) -> dict[str, float]:
    said = server.metrics()
    return {
        "passes": said["layerline_correlator_passes_total"],
        "worked traces": said["layerline_correlator_worked_traces_total"],
    }


def of_agent(containers: int, seconds: float) -> tuple[float, float]:
    """Share of a core and resident MiB, its counters as they were captured."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=serve, args=(there, AT_REST_S), daemon=True)
    sink.start()
    settings = Settings(endpoint=f"http://127.0.0.1:{here.recv()}")
    with tempfile.TemporaryDirectory() as folder:
        grow(next(iter(TREES)), containers, Path(folder))
        agent = context.Process(target=measure_agent, args=(there, settings, folder, seconds))
        agent.start()
        _, share, rss = here.recv()
        agent.join()
    sink.terminate()
    sink.join()
    return share, rss / 2**20


def of_netdata(warm_up_s: float, seconds: float) -> tuple[float, float] | None:
    """Share of a core and resident MiB of netdata and its children; None where it is not installed."""
    command = shutil.which("netdata")
    if command is None:
        return None
    started = subprocess.Popen([command, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(warm_up_s)
        root = psutil.Process(started.pid)
        family = [root, *root.children(recursive=True)]

        def cpu_s() -> float:
            times = [one.cpu_times() for one in family if one.is_running()]
            return sum(one.user + one.system for one in times)

        before, began_s = cpu_s(), time.monotonic()
        time.sleep(seconds)
        share = (cpu_s() - before) / (time.monotonic() - began_s)
        return share, sum(one.memory_info().rss for one in family if one.is_running()) / 2**20
    finally:
        started.terminate()
        started.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--warm-up", type=float, default=60, help="seconds before it is measured")
    parser.add_argument("--seconds", type=float, default=120, help="an ordinary ledger waits for up to three minutes")
    options = parser.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}")
    print(f"{'':20s}{'of one core':>12s}{'MiB':>8s}", flush=True)
    share, memory, figures = of_server(options.containers, options.warm_up, options.seconds)
    print(f"{'layerline serve':20s}{share:12.1%}{memory:8.0f}", flush=True)
    agent_share, agent_memory = of_agent(options.containers, options.seconds)
    print(f"{'layerline agent':20s}{agent_share:12.1%}{agent_memory:8.0f}", flush=True)
    netdata = of_netdata(options.warm_up, options.seconds)
    said = "not installed" if netdata is None else f"{netdata[0]:12.1%}{netdata[1]:8.0f}"
    print(f"{'netdata':20s}{said}")
    print("a minute: " + ", ".join(f"{number:.0f} {name}" for name, number in figures.items()))
    is_reached = share + agent_share <= GOAL
    print(f"goal: both together at most {GOAL:.0%}: {'reached' if is_reached else 'MISSED'}")
    sys.exit(0 if is_reached else 1)


if __name__ == "__main__":
    main()
