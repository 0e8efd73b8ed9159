"""What the agent costs: share of one core and memory, everything read each second, stalls each 200 ms.

    python benchmarks/agent.py [--containers 100] [--seconds 20] [--live]

The tree is a captured machine's with one container copied many times. Three cases each: a machine at rest, one on which
the counters of half of the containers move before every reading, and one on which all do. Plain files stand in for the
kernel's, so what the kernel needs to make up a cgroup file is not in the figure; ``--live`` reads the containers of
this machine instead. Requests go to a sink in another process, which is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import shutil
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from layerline_agent.agent import Agent, build
from layerline_agent.cgroups import Tree
from layerline_agent.discovery import Discovery
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.outbox import Outbox
from layerline_agent.settings import Settings

CAPTURED = Path(__file__).parent.parent / "tests/agent/captured"
TREES = {
    "v2": ("cgroup-v2-kernel-6.1", "4f2a9c1d7be35f60812e94ab3c6d5f7e8091a2b3c4d5e6f708192a3b4c5d6e7f"),
    "hybrid": ("cgroup-hybrid-kernel-6.18", "05387d400547ce9b00e7646fd40636edf59567afb7ceabf3bfb7b838230b118e"),
}

#: The process of the first container; each further one has the next.
FIRST_PID = 100_000

#: The files whose counters move in a busy container.
MOVING = ("cpu.stat", "cpuacct.usage", "cpu.pressure", "io.pressure")


class Sink(BaseHTTPRequestHandler):
    """Answers 200 and forgets."""

    protocol_version = "HTTP/1.1"
    every_s: int | None = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        if self.every_s is not None:
            self.send_header("Layerline-Send-Every", str(self.every_s))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(port: Connection, every_s: int | None = None) -> None:
    """Run a sink in this process and tell its port. ``every_s``: what a server that nobody asks tells the agent."""
    Sink.every_s = every_s
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    port.send(server.server_port)
    server.serve_forever()


def grow(captured: str, containers: int, root: Path) -> list[Path]:
    """Copy a captured machine to ``root`` with this many copies of its container; the files that can move."""
    tree, container = TREES[captured]
    shutil.copytree(CAPTURED / tree / "first", root, dirs_exist_ok=True)
    originals = [path for path in root.rglob(f"*{container}*") if path.is_dir()]
    for other in root.rglob("docker-9988*.scope"):
        shutil.rmtree(other)
    hybrid = CAPTURED / TREES["hybrid"][0] / "first"
    network = root / "network"  # as a container sees it: one interface beside its loopback
    network.mkdir()
    shutil.copy(hybrid / "proc/31370/net/dev", network)
    shutil.copy(hybrid / "proc/1/net/snmp", network)
    namespace(root, 1, None)
    for number in range(containers):
        if number:
            for original in originals:
                shutil.copytree(original, original.parent / original.name.replace(container, f"{number:064x}"))
        for original in originals:
            name = original.name.replace(container, f"{number:064x}" if number else container)
            (original.parent / name / "cgroup.procs").write_text(f"{FIRST_PID + number}\n")
        namespace(root, FIRST_PID + number, network)
    return [
        path
        for name in MOVING
        for path in root.glob(f"sys/fs/cgroup/**/{name}")
        if re.search("[0-9a-f]{64}", str(path))
    ]


def namespace(root: Path, pid: int, network: Path | None) -> None:
    """Give a process a network namespace of its own, and a copy of these files in it."""
    (root / f"proc/{pid}/ns").mkdir(parents=True, exist_ok=True)
    (root / f"proc/{pid}/ns/net").symlink_to(f"net:[{pid}]")
    if network is not None:
        shutil.copytree(network, root / f"proc/{pid}/net")


def move(files: list[Path]) -> None:
    """Let counters grow ten times a second, by rewriting their last digits in place, until this process is ended."""
    moving = [(os.open(path, os.O_RDWR), path.read_bytes().rstrip()) for path in files]
    turn = 0
    while True:
        time.sleep(0.1)
        turn = (turn + 7) % 1000
        for descriptor, content in moving:
            os.pwrite(descriptor, re.sub(rb"(\d)\d{3}\b", rb"\g<1>%03d" % turn, content), 0)


def synthetic(settings: Settings, root: str) -> Agent:
    """An agent that finds the containers of this tree by walking."""
    File.keep_many()
    machine = Machine(root)
    tree = Tree.of(machine)
    os.environ["DOCKER_HOST"] = f"unix://{root}/no-docker.sock"
    discovery = Discovery(machine, tree)
    agent = Agent(settings, machine, discovery, Outbox(settings.endpoint, settings.headers, settings.buffer_bytes))
    discovery.start()
    agent.look()
    return agent


def measure(answer: Connection, settings: Settings, root: str, seconds: float) -> None:
    """Run the agent in this process for a while: how many containers, share of a core, resident bytes."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        agent = synthetic(settings, root) if root else build(settings)[0]
    process = psutil.Process()
    thread = threading.Thread(target=agent.run)
    thread.start()
    time.sleep(2.0)  # the first second opens every file
    began, before = time.monotonic(), process.cpu_times()
    time.sleep(seconds)
    used, passed = process.cpu_times(), time.monotonic() - began
    share = (used.user - before.user + used.system - before.system) / passed
    answer.send((agent.containers, share, process.memory_info().rss))
    agent.stop()
    thread.join()


def main() -> None:
    """Measure each case in a process of its own, and print what it used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--live", action="store_true", help="read the containers of this machine")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=serve, args=(there,), daemon=True)
    sink.start()
    settings = Settings(endpoint=f"http://127.0.0.1:{here.recv()}")
    print("machine   moving   containers   of one core   memory     (budget for 100: 2 %, 80 MiB)")
    cases = [("live", 0.0)] if options.live else [(tree, part) for tree in TREES for part in (0, 0.5, 1)]
    for captured, moving in cases:
        with tempfile.TemporaryDirectory() as folder:
            helpers = []
            if captured in TREES:
                files = grow(captured, options.containers, Path(folder))
                chosen = files[: int(len(files) * moving)]
                helpers.append(context.Process(target=move, args=(chosen,), daemon=True))
            root = folder if captured in TREES else ""
            agent = context.Process(target=measure, args=(there, settings, root, options.seconds))
            for process in (*helpers, agent):
                process.start()
            watched, share, rss = here.recv()
            agent.join()
            for helper in helpers:
                helper.terminate()
                helper.join()
        part = "as is" if captured == "live" else f"{moving:.0%}"
        print(f"{captured:<9} {part:<8} {watched:<12} {share:<13.1%} {rss / 2**20:.0f} MiB", flush=True)
    sink.terminate()
    sink.join()


if __name__ == "__main__":
    main()
