"""A folder, two ports and a seed: where the servers of one test live, one after another."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from real_server import Box, Contained, Ports, Process, Program, Server

from layerline_api.commands import serve


@dataclass
class Stage:
    """Starts servers, here or in containers, and draws moments."""

    folder: Path
    seed: str
    ports: Ports
    box: Box | None = None
    memory: str | None = None
    servers: list[Server] = field(default_factory=list)
    acknowledged: str = ""
    """What the last of them was known to have taken."""

    def start(self, program: Program = serve, folder: Path | None = None, **environment: str) -> Server:
        """A server that begins to start over the store of this folder."""
        log = self.folder / "server.log"  # not on a disk that is filled: it must say what went wrong there
        self.servers.append(Server(self.run, folder or self.folder, log, self.ports, program, environment))
        return self.servers[-1]

    def run(self, command: list[str], environment: Mapping[str, str], log: Path) -> Process | Contained:
        """A command, where this stage's servers run."""
        if self.box is None:
            return Process(command, environment, log)
        assert self.memory is not None
        return Contained(self.box, command, environment, log, self.folder, self.memory)

    def draw(self, what: str) -> random.Random:
        """A source of moments and data that the seed repeats."""
        return random.Random(f"{self.seed} {what}")  # noqa: S311 - not a secret

    def summary(self) -> str:
        """What the servers were like, in a line."""
        slowest_s = max((server.started_s for server in self.servers), default=0)
        most_bytes = max((server.peak_bytes for server in self.servers), default=0)
        known = f"acknowledged {self.acknowledged}, " if self.acknowledged else ""
        return f"{known}slowest of {len(self.servers)} starts {slowest_s:.1f} s, at most {most_bytes / 2**20:.0f} MiB"
