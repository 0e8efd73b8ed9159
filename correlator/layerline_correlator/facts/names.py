"""The names of entities, by their ids."""

from __future__ import annotations

import threading
import time

import duckdb

from layerline_correlator.entity import NAMELESS, Entity

_REFRESH_S = 2.0


class Names:
    """The names of containers and hosts, read anew when an unknown one is asked for, at most every two seconds."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Take ownership of ``cursor``."""
        self._cursor = cursor
        self._lock = threading.Lock()
        self._containers: dict[str, str] = {}
        self._hosts: dict[str, Entity] = {}
        self._processes: dict[str, str] = {}
        self._read_at = float("-inf")

    def entity(self, kind: str, identity: str) -> Entity:
        """The entity with its name; the short id or the id itself where no name is known."""
        if not identity:  # somebody's reading says neither which container it is of, nor which machine
            return Entity(kind, "", "unknown")
        if kind == "container":
            if identity not in self._containers:
                self._refresh()
            return Entity("container", identity, self._containers.get(identity, identity[:12]))
        if kind == "host":
            if identity not in self._hosts:
                self._refresh()
            return self._hosts.get(identity, Entity("host", identity, NAMELESS))
        if kind == "process":
            if identity not in self._processes:
                self._refresh()
            return Entity("process", identity, self._processes.get(identity, identity))
        return Entity(kind, identity, identity)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at < _REFRESH_S:
                return
            self._read_at = time.monotonic()
            self._containers = dict(
                self._cursor.execute(
                    "SELECT container_id, shown_name FROM container WHERE shown_name IS NOT NULL"
                ).fetchall()
            )
            self._processes = {
                key: f"{service} (process {pid})" if pid else service
                for key, service, pid in self._cursor.execute(
                    "SELECT instance, min(service), any_value(attributes['process.pid']) FROM resource"
                    " WHERE service IS NOT NULL GROUP BY instance"
                ).fetchall()
            }
            self._hosts = {
                key: Entity("host", host_id or key, name or host_id or key)
                for key, host_id, name in self._cursor.execute(
                    "SELECT host, host_id, name FROM host WHERE host_id IS NOT NULL OR name IS NOT NULL"
                ).fetchall()
            }
