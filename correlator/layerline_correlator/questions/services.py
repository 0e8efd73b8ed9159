"""Services over a window: how many requests each answered, how slow, and who called whom."""

from __future__ import annotations

import duckdb

from layerline_correlator.questions.model import Edge, ServiceItem, ServiceMap
from layerline_correlator.store.statements import text

_SERVICES = """
SELECT service, count(*) AS requests, count(*) FILTER (status = 2) AS errors,
       quantile_disc(end_ns - start_ns, 0.5) AS p50_ns, quantile_disc(end_ns - start_ns, 0.95) AS p95_ns
FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns
GROUP BY service ORDER BY service
"""


def read_service_map(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> ServiceMap:
    """The services that answered requests in the window, and who called whom."""
    window = {"from_ns": from_ns, "to_ns": to_ns}
    items = [ServiceItem(*row) for row in cursor.execute(_SERVICES, window).fetchall()]
    calls = text("questions/services.sql")
    edges = [Edge(*row) for row in cursor.execute(calls, window).fetchall()]
    reason = None if items else "no request was received in this window"
    return ServiceMap(items, edges, reason=reason)
