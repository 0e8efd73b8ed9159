"""Lines on stderr as JSON, for collectors of logs: one object a line (``LAYERLINE_LOG=json``).

Fields are those of most collectors: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, and ``exception``
where there is one. Texts that hold line breaks stay one line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

FORMS: Final = ("text", "json")
_forms: Final[set[str]] = set()


def as_text_or_json(text: str) -> str:
    """The form that ``LAYERLINE_LOG`` names. ValueError says what was expected and found."""
    form = text.strip().lower() or "text"
    if form not in FORMS:
        raise ValueError(f"LAYERLINE_LOG: expected text or json, found {text!r}")
    return form


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def log_as_json(level: int = logging.WARNING) -> None:
    """From now on every logger of this process writes JSON on stderr, and so does ``say``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    _forms.add("json")


def say(who: str, line: str) -> None:
    """One line on stderr of a program such as ``layerline agent``. Nobody is harmed where nobody listens."""
    if "json" in _forms:
        log = logging.getLogger(who.replace(" ", "."))
        log.setLevel(logging.INFO)
        log.info("%s", line)
        return
    with contextlib.suppress(OSError, ValueError):  # stderr is closed, or who read it has gone
        print(f"{who}: {line}", file=sys.stderr, flush=True)
