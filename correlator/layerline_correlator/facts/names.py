"""The names of entities, by their ids."""

from __future__ import annotations

import threading
import time
from typing import Any

import duckdb

from layerline_correlator.entity import NAMELESS, Entity

_REFRESH_S = 2.0


#: Names of one kind that are remembered, at most; others are looked up one by one, and as many of those remembered.
MOST = 50_000
_CONTAINERS = "SELECT container_id, shown_name FROM container WHERE shown_name IS NOT NULL"
_PROCESSES = """
SELECT instance, min(service), any_value(attributes['process.pid']) FROM resource
WHERE service IS NOT NULL {} GROUP BY instance
"""
_HOSTS = "SELECT host, host_id, name FROM host WHERE (host_id IS NOT NULL OR name IS NOT NULL)"


class Names:
    """The names of containers and hosts, read anew when an unknown one is asked for, at most every two seconds."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Take ownership of ``cursor``."""
        self._cursor = cursor
        self._lock = threading.Lock()
        self._containers: dict[str, str] = {}
        self._hosts: dict[str, Entity] = {}
        self._processes: dict[str, str] = {}
        self._has_more = False  # whether there are more than these
        self._read_at = float("-inf")

    def entity(self, kind: str, identity: str) -> Entity:
        """The entity with its name; the short id or the id itself where no name is known."""
        if not identity:  # somebody's reading says neither which container it is of, nor which machine
            return Entity(kind, "", "unknown")
        if kind == "container":
            if identity not in self._containers:
                self._refresh(kind, identity)
            return Entity("container", identity, self._containers.get(identity, identity[:12]))
        if kind == "host":
            if identity not in self._hosts:
                self._refresh(kind, identity)
            return self._hosts.get(identity, Entity("host", identity, NAMELESS))
        if kind == "process":
            if identity not in self._processes:
                self._refresh(kind, identity)
            return Entity("process", identity, self._processes.get(identity, identity))
        return Entity(kind, identity, identity)

    def _refresh(self, kind: str, identity: str) -> None:
        with self._lock:
            if not self._has_more and time.monotonic() - self._read_at >= _REFRESH_S:
                self._read_at = time.monotonic()
                self._containers = self._found("container")
                self._processes = self._found("process")
                self._hosts = self._found("host")
                self._has_more = MOST in (len(self._containers), len(self._processes), len(self._hosts))
            if self._has_more:
                self._look_up(kind, identity)

    def _look_up(self, kind: str, identity: str) -> None:
        """Of very many names this one."""
        of_kind: dict[str, dict[str, Any]] = {
            "container": self._containers,
            "process": self._processes,
            "host": self._hosts,
        }
        known = of_kind[kind]
        if len(known) >= 2 * MOST:
            known.clear()
        known.update(self._found(kind, identity))

    def _found(self, kind: str, identity: str | None = None) -> dict[str, Any]:
        """Names of that kind, all of them up to the most, or the one."""

        def rows(sql: str, column: str) -> list[tuple[Any, ...]]:
            one = "" if identity is None else f"AND {column} = $identity"
            bound = {} if identity is None else {"identity": identity}
            text = sql.format(one) if "{}" in sql else f"{sql} {one}"
            return self._cursor.execute(f"{text} LIMIT {MOST}", bound).fetchall()

        if kind == "container":
            return dict(rows(_CONTAINERS, "container_id"))
        if kind == "process":
            return {
                key: f"{service} (process {pid})" if pid else service
                for key, service, pid in rows(_PROCESSES, "instance")
            }
        return {
            key: Entity("host", host_id or key, name or host_id or key) for key, host_id, name in rows(_HOSTS, "host")
        }
