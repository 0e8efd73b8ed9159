"""Serve and agent together, for one machine.

The agent is a child process: what it costs is its own, and where it cannot run (its extra is not installed, Docker is
out of reach) the server goes on without it and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from layerline_api.commands.serve import parser, run
from layerline_correlator.threads import Threads

#: How long the agent may take to send its last readings, in seconds.
LAST_WORDS_S = 2.0


def main(argv: Sequence[str]) -> int:
    """``layerline up [serve's options] [--tag key:value]… [--interval 1s]``."""
    options_parser = parser("up", (__doc__ or "").partition("\n")[0])
    options_parser.add_argument("--tag", action="append", default=[], metavar="KEY:VALUE", help="passed to the agent")
    options_parser.add_argument("--interval", metavar="DURATION", help="passed to the agent")
    options = options_parser.parse_args(argv)
    agent_options = [word for tag in options.tag for word in ("--tag", tag)]
    if options.interval is not None:
        agent_options += ["--interval", options.interval]
    if options.config is not None:
        agent_options += ["--config", options.config]
    return run("up", options, lambda endpoint, threads: _agent(endpoint, threads, agent_options))


def _agent(endpoint: str, threads: Threads, options: Sequence[str]) -> Callable[[], None]:
    """Start the agent; returns what ends it. The token goes through the environment (LAYERLINE_TOKEN)."""
    leash = [sys.executable, "-m", "layerline_api.leash", str(os.getpid())]
    agent = subprocess.Popen([*leash, "agent", "--endpoint", endpoint, *options], stdin=subprocess.DEVNULL)
    ending = threading.Event()

    def watch() -> None:
        code = agent.wait()
        if not ending.is_set():
            print(
                f"layerline up: the agent ended (exit code {code}); serving goes on without readings of containers "
                "and host",
                file=sys.stderr,
                flush=True,
            )

    def end() -> None:
        ending.set()
        agent.terminate()
        try:
            agent.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            agent.kill()

    threads.start("layerline-agent", watch)
    return end


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
