"""Ties senders to containers and machines: from ``sighting`` and ``called_at`` to ``tie``.

Nearly all sightings are plain (``join/plain.sql``); of the others ``join/judged.sql`` judges who fits, and why not.
"""

from __future__ import annotations

FILES = ("facts/join/plain.sql", "facts/join/judged.sql")
GIVEN = ("sighting", "called_at")
