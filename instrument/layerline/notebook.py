"""A server's tables in a notebook: ``layerline.connect(url)`` asks for them as Arrow and hands them on as pandas.

The extra ``notebook`` installs what this needs; nothing of it is imported before somebody connects.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
#: The documented views (`layerline docs sql`), and the column by which each is in order of time.
VIEWS = {
    "requests": "start_ns", "parts": "start_ns", "blind": "start_ns", "spans": "start_ns", "points": "time_ns",
    "events": "time_ns", "logs": "time_ns", "containers": None, "hosts": None, "processes": None,
}  # fmt: skip
#: Rows that are asked for, unless said otherwise.
ROWS = 100_000
_PATIENCE_S = (3.05, 60)
_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}


class CannotAsk(RuntimeError):
    """The server was not reached, or refused; the message says why."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One server. Each call asks it anew."""

    url: str
    token: str | None = None

    @classmethod
    def to(cls, url: str | None, token: str | None) -> Connection:
        """The server that these, else the environment, name. ``ImportError`` says what to install."""
        try:
            import pyarrow  # noqa: F401 - whether it is there
            import requests  # noqa: F401
        except ModuleNotFoundError as missing:
            raise ImportError(
                f"layerline.connect needs the extra 'notebook', and {missing.name} is not installed:"
                " pip install 'layerline[notebook]'"
            ) from None
        where = url or os.environ.get("LAYERLINE_SERVER") or "http://127.0.0.1:4318"
        return cls(where.rstrip("/"), token or os.environ.get("LAYERLINE_TOKEN") or None)

    def arrow(self, sql: str, limit: int = ROWS) -> pa.Table:
        """What one SELECT over the documented views finds. A warning says where there is more than ``limit``."""
        import pyarrow as pa
        import requests

        headers = {"Accept": ARROW} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            answer = requests.post(
                f"{self.url}/api/v1/sql", json={"sql": sql, "limit": limit}, headers=headers, timeout=_PATIENCE_S
            )
        except requests.RequestException as problem:
            raise CannotAsk(f"{self.url} cannot be reached: {type(problem).__name__}") from None
        if answer.status_code != 200 or answer.headers.get("Content-Type") != ARROW:
            raise CannotAsk(_why(answer))
        table = pa.ipc.open_stream(answer.content).read_all()
        if (table.schema.metadata or {}).get(b"layerline.cut") == b"true":
            import warnings

            warnings.warn(f"there is more than these {limit:,} rows", stacklevel=2)
        return table

    def sql(self, sql: str, limit: int = ROWS) -> pd.DataFrame:
        """The same as a pandas frame."""
        return self.arrow(sql, limit).to_pandas()

    def frame(self, view: str, since: str | None = "1h", limit: int = ROWS) -> pd.DataFrame:
        """A view of the last ``since`` (``15m``, ``2h``, ``1d``; None: all of it), in order of time."""
        if view not in VIEWS:
            raise ValueError(f"there is no view {view!r}; there are: {', '.join(VIEWS)}")
        column = VIEWS[view]
        if column is None:
            return self.sql(f"SELECT * FROM {view}", limit)
        where = f"WHERE {column} >= {time.time_ns() - _ns(since)}" if since else ""
        return self.sql(f"SELECT * FROM {view} {where} ORDER BY {column}", limit)


def _ns(text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise ValueError(f"since is {text!r}; expected a duration such as 15m, 2h or 1d")
    return int(match[1]) * _UNITS_NS[match[2]]


def _why(answer: object) -> str:
    try:
        return str(answer.json()["detail"])  # type: ignore[attr-defined]
    except (ValueError, KeyError, TypeError):
        return "the server did not answer as Layerline does"
