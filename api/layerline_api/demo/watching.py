"""Layerline itself, watching: a server with a token in the place of the services, the agent on the machine."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from layerline_api.demo.layout import Cores
from layerline_api.demo.place import DemoError, Limits, Place, Service, wait_ready, wrapper_environment
from layerline_api.demo.processes import Processes

PORT = 4318
#: The server's weight against other containers, which have 1024: where all want a core, it is the server that waits.
SERVER_SHARES = 128


class Watching:
    """``place`` holds the server, ``machine`` the agent, which reads the machine's cgroups and Docker's socket."""

    def __init__(self, place: Place, machine: Processes, cores: Cores) -> None:
        self.token = secrets.token_urlsafe(24)
        self._place, self._machine, self._cores = place, machine, cores
        self._agent_pid: int | None = None

    def open_server(self) -> None:
        """Start the server and wait until it answers. The token is in its environment, where `ps` does not show it."""
        listen = self._place.listen("server", PORT)
        store = f"{self._place.folder('store')}/layerline"
        command = ("-m", "layerline.command", "serve", "--listen", listen, "--store", store)
        environment = {"LAYERLINE_TOKEN": self.token}
        limits = Limits(cpuset=self._cores.rest, cpu_shares=SERVER_SHARES)
        self._place.start(Service("server", command, environment, port=PORT, folder="store", limits=limits))
        wait_ready(self._place, "server")

    def open_agent(self) -> None:
        """Start the agent."""
        command = ("-m", "layerline.command", "agent", "--endpoint", self.url, "--tag", "region:demo")
        environment = {"LAYERLINE_TOKEN": self.token, "LAYERLINE_SPOOL": "off"}  # nothing is left to another server
        agent = self._machine.start(Service("agent", command, environment, limits=Limits(cpuset=self._cores.rest)))
        self._agent_pid = int(agent.id)

    def processes_ns(self) -> int:
        """The CPU time that what measures has used outside of containers: this process and the agent.

        Source: ``utime`` and ``stime`` of ``/proc/PID/stat`` (fields 14 and 15), in ticks of 1/USER_HZ s.
        """
        agent_ns = 0
        if self._agent_pid is not None:
            with suppress(OSError):
                fields = Path(f"/proc/{self._agent_pid}/stat").read_text().rpartition(")")[2].split()
                agent_ns = (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return time.process_time_ns() + agent_ns

    @property
    def url(self) -> str:
        """The server's URL from here."""
        return self._place.url("server")

    def environment(self, service: str) -> dict[str, str]:
        """What a wrapped service needs to know."""
        return wrapper_environment(service, f"http://{self._place.peer('server', PORT)}", self.token)

    def check(self) -> None:
        """DemoError with its last lines if server or agent has ended."""
        for place, name in ((self._place, "server"), (self._machine, "agent")):
            if not place.alive(name):
                raise DemoError(f"the {name} ended:\n{place.output(name)}")
