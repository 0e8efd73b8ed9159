"""In the container: make a database cluster in memory, become its server. ``PGPASSWORD`` is the role's password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: A container's own tmpfs, of 64 MiB by Docker's default: a fresh cluster with small logs takes half of it.
DATA = Path("/dev/shm/data")  # noqa: S108 - the container's own


def main(binaries: Path, role: str, port: str) -> None:
    """Replace this process by ``postgres``."""
    secret = Path("/tmp/secret")  # noqa: S108 - the container's own
    secret.write_text(os.environ.pop("PGPASSWORD"))
    access = ("--auth=scram-sha-256", f"--pwfile={secret}", f"--username={role}")
    made = ("--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", f"--pgdata={DATA}")
    subprocess.run([str(binaries / "initdb"), *access, *made], check=True, stdout=subprocess.DEVNULL)
    secret.unlink()
    with (DATA / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    settings = {
        "listen_addresses": "*",
        "port": port,
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",
        "min_wal_size": "2MB",
        "max_wal_size": "8MB",
        "max_connections": "50",
        "shared_buffers": "16MB",
    }
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    os.execv(binaries / "postgres", ["postgres", "-D", str(DATA), *flags])  # noqa: S606 - to become it is the point


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
