"""Stores as earlier versions left them: one ``.sql`` file each in ``older_stores``, which makes and fills the tables.

A file is what that version made, and stays as it is. When what a store looks like changes, the last one is added.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

FILES = sorted((Path(__file__).parent / "older_stores").glob("*.sql"))
SPANS, POINTS, EVENTS, TRACES = 20_000, 20_000, 200, 4_000


def make(file: Path, store: Path) -> None:
    """The store of this file in a new folder."""
    store.mkdir(mode=0o700)
    with duckdb.connect(str(store / "hot.duckdb")) as database:
        database.execute(file.read_text(encoding="utf-8")).fetchall()
