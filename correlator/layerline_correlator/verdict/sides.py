"""The time between caller and callee: whose side was it on?

A delay on the way is offered to both. The other edges of both decide: if the other calls of the caller were late too,
it is on its side; if calls of others to the callee were late too, on that side. Without other edges it stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from layerline_correlator.entity import Naming
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.store.sealed import SPAN, within
from layerline_correlator.store.statements import first_row, text
from layerline_correlator.verdict.changed import UNEXPLAINED
from layerline_correlator.verdict.model import Neighbour, Part, Verdict

#: How long before the requests edges are looked at, and how far around them.
EARLIER_NS, AROUND_NS = 5 * 60 * 10**9, 5 * 10**9
#: Edges are looked at for no longer than this.
LONGEST_NS = 15 * 60 * 10**9
#: Of the calls before the requests, and of those around them, so many are looked at; where there are more, those of a
#: part of the traces, which their ids decide.
CALLS = 10_000
_HIGHEST = 2**64 - 1
#: An edge is late when its calls were under way for so much longer than before.
LATE_NS = 20_000_000


_COUNT = """
SELECT count(*) FILTER (start_ns < $from_ns), count(*) FILTER (start_ns >= $from_ns)
FROM span WHERE kind = 3 AND start_ns BETWEEN $since_ns AND $until_ns
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that shares one end with the slow one."""

    side: str
    other: str
    later_ns: int
    calls: int


class Calls:
    """The calls around the requests of a question, read once for all of its verdicts that need them."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, around_ns: tuple[int, int]) -> None:
        """Of the store that the cursor belongs to. ``around_ns``: the first start and the last end of all requests."""
        self._cursor = cursor
        self._all_ns = max(around_ns[0], around_ns[1] - 2 * LONGEST_NS), around_ns[1]
        self._read_ns: tuple[int, int] | None = None

    def near(self, around_ns: tuple[int, int]) -> duckdb.DuckDBPyConnection:
        """A cursor whose table ``near_call`` has the calls around these times, and those before them."""
        if not _within(around_ns, self._read_ns):
            read_ns = self._all_ns if _within(around_ns, self._all_ns) else around_ns
            bounds = {
                "since_ns": max(0, read_ns[0] - EARLIER_NS),
                "from_ns": read_ns[0] - AROUND_NS,
                "until_ns": read_ns[1] + AROUND_NS,
            }
            with within(self._cursor, bounds["since_ns"], bounds["until_ns"] + 1, SPAN):
                before, around = first_row(self._cursor.execute(_COUNT, bounds)) or (0, 0)
                highest = {
                    "highest": _HIGHEST * CALLS // max(CALLS, around),
                    "highest_before": _HIGHEST * CALLS // max(CALLS, before),
                }
                self._cursor.execute(text("verdict/near_call.sql"), bounds | highest).fetchall()
            self._read_ns = read_ns
        return self._cursor


def _within(inner: tuple[int, int], outer: tuple[int, int] | None) -> bool:
    return outer is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def with_sides(verdict: Verdict, calls: Calls, around_ns: tuple[int, int], name: Naming) -> Verdict:
    """The verdict, with the side named (``by``) where a culprit is time between two services.

    Of requests that lie further apart than ``LONGEST_NS``, the newest decide.
    """
    blamed = {
        (one.cause, one.entity.id)
        for culprit in verdict.culprits
        for one in (culprit, *(culprit.causes or ()))
        if one.cause != UNEXPLAINED and by_name(one.cause).layer == "network"
    }
    if not blamed:
        return verdict
    around_ns = max(around_ns[0], around_ns[1] - LONGEST_NS), around_ns[1]
    cursor = calls.near(around_ns)
    parts = []
    for part in verdict.parts:
        if (part.cause, part.entity.id) in blamed:
            callee = _callee(cursor, part, around_ns)
            part = decided(part, callee, _edges(cursor, part.service, callee, around_ns), name) if callee else part
        parts.append(part)
    return replace(verdict, parts=parts)


def decided(part: Part, callee: str, edges: Sequence[Edge], name: Naming) -> Part:
    """The part with both sides in ``by``, the likelier first, and why; unchanged where no other edge tells."""
    late = {
        side: [edge for edge in edges if edge.side == side and edge.later_ns >= LATE_NS]
        for side in ("caller", "callee")
    }
    seen = {side: [edge for edge in edges if edge.side == side] for side in late}
    if not (seen["caller"] or seen["callee"]):
        return part
    # Half for each to begin with; each side's other edges, late or not, move it.
    weights = {side: (1 + 2 * len(late[side])) / (2 + 2 * len(seen[side])) for side in late}
    whole = sum(weights.values())
    services = {"caller": part.service, "callee": callee}
    order = sorted(weights, key=lambda side: -weights[side])
    because = "; ".join(
        _in_words(services[side], side, len(late[side]), len(seen[side])) for side in order if seen[side]
    )
    return replace(
        part,
        by=[Neighbour(name("service", services[side]), round(weights[side] / whole, 4)) for side in order],
        because=f"{part.because}; {because}",
    )


def _in_words(service: str, side: str, late: int, seen: int) -> str:
    what = f"other calls of {service}" if side == "caller" else f"calls of others to {service}"
    return f"{late} of {seen} kinds of {what} were late too" if late else f"{what} were as usual"


def _edges(cursor: duckdb.DuckDBPyConnection, caller: str, callee: str, around_ns: tuple[int, int]) -> list[Edge]:
    sql = text("verdict/sides.sql")
    bounds = {
        "caller": caller,
        "callee": callee,
        "from_ns": around_ns[0] - AROUND_NS,
        "to_ns": around_ns[1] + AROUND_NS,
        "since_ns": max(0, around_ns[0] - EARLIER_NS),
    }
    return [Edge(*row) for row in cursor.execute(sql, bounds).fetchall()]


def _callee(cursor: duckdb.DuckDBPyConnection, part: Part, around_ns: tuple[int, int]) -> str | None:
    """The service that answered the caller's calls to this address."""
    row = first_row(
        cursor.execute(
            "SELECT mode(callee) FROM near_call WHERE caller = $caller AND start_ns BETWEEN $from_ns AND $to_ns"
            " AND (address = $address OR peer = $address OR contains(url, $address))",
            {
                "caller": part.service,
                "address": part.entity.id,
                "from_ns": around_ns[0] - AROUND_NS,
                "to_ns": around_ns[1] + AROUND_NS,
            },
        )
    )
    return row[0] if row else None
