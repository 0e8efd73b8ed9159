"""A real PostgreSQL in a container of its own, and what makes its clients wait for it."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.lab.subject import Subject
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import DemoError, Entity, Limits, Service

SERVER = Path(__file__).with_name("postgres_server.py")
PORT = 5432
ROLE = "lab"
#: ``postgres`` refuses to run as root; this is nobody's number on every Linux.
USER = "65534:65534"
READY_S = 40.0


def binaries() -> Path:
    """The folder of the newest ``initdb`` and ``postgres`` of this machine. DemoError if there is none."""
    versions = sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()),
        key=lambda path: float(path.parent.name),
    )
    if versions:
        return versions[-1]
    if (found := shutil.which("postgres")) is not None:
        return Path(found).resolve().parent
    raise DemoError("no PostgreSQL server on this machine: neither /usr/lib/postgresql/*/bin nor postgres on PATH")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server with the table ``item (id, count)`` and its row 1."""

    entity: Entity
    url: str = field(repr=False)
    """For this process."""
    peer_url: str = field(repr=False)
    """For the other services (``DATABASE_URL``)."""

    @contextmanager
    def row_lock(self, seconds: float, row: int = 1) -> Iterator[None]:
        """A transaction of ours holds a row for so long, from now on; others' UPDATE of it waits for its end."""
        connection = psycopg.connect(self.url)
        try:
            locked = connection.execute("SELECT id FROM item WHERE id = %s FOR UPDATE", (row,)).fetchone()
            if locked is None:
                raise DemoError(f"table item has no row {row} to lock")
            timer = threading.Timer(seconds, connection.rollback)
            timer.start()
            try:
                yield
            finally:
                timer.join()
        finally:
            connection.close()


@contextmanager
def postgres(place: Containers, limits: Limits | None = None, name: str = "postgres") -> Iterator[Postgres]:
    """Start a server and wait until it answers. DemoError shows its last lines if it does not."""
    password = secrets.token_urlsafe(16)
    command = (str(SERVER), str(binaries()), ROLE, str(PORT))
    service = Service(
        name,
        command,
        {"PGPASSWORD": password},
        port=PORT,
        limits=limits or Limits(),
        binds=(SERVER.parent,),
        user=USER,
    )
    entity = place.start(service)
    try:
        deadline = time.monotonic() + READY_S
        while True:
            at = f"{ROLE}:{password}@{urlsplit(place.url(name)).netloc}/postgres"
            try:
                with psycopg.connect(f"postgresql://{at}", connect_timeout=3, autocommit=True) as connection:
                    connection.execute("CREATE TABLE item (id int PRIMARY KEY, count int NOT NULL)")
                    connection.execute("INSERT INTO item VALUES (1, 0)")
                break
            except psycopg.OperationalError as problem:
                if not place.alive(name) or time.monotonic() > deadline:
                    raise DemoError(f"PostgreSQL did not start: {problem}\n{place.output(name)}") from problem
                time.sleep(0.2)
        peer = f"postgresql://{ROLE}:{password}@{place.peer(name, PORT)}/postgres"
        yield Postgres(entity, f"postgresql://{at}", peer)
    finally:
        place.stop(name)


@contextmanager
def row_locked(subject: Subject, milliseconds: int) -> Iterator[None]:
    """Somebody else holds the row that the request changes."""
    assert subject.stage.database is not None
    with subject.stage.database.row_lock(milliseconds / 1_000):
        yield
