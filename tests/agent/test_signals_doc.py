"""``docs/SIGNALS.md`` is the catalogue."""

from __future__ import annotations

from pathlib import Path

from layerline.signals import document

DOCUMENT = Path(__file__).parent.parent.parent / "docs/SIGNALS.md"


def test_document_is_generated() -> None:
    """The committed document says what the catalogue says: ``python docs/make.py``."""
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `.venv/bin/python docs/make.py`"
