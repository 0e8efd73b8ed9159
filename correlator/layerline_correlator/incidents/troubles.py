"""The rows of the table ``trouble``: how they are read, and the columns that are made of stretches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from layerline_correlator.incidents.detect import Stretch
from layerline_correlator.incidents.signs import GAP_NS, Lasted, Operation, Sign
from layerline_correlator.store.model import resource_key

#: The types of the columns ``causes`` and ``stretches``.
CAUSES = "STRUCT(cause VARCHAR, service VARCHAR, address VARCHAR, least_ns BIGINT)[]"
STRETCHES = (
    "STRUCT(kind VARCHAR, cause VARCHAR, service VARCHAR, address VARCHAR,"
    " from_ns BIGINT, noticed_ns BIGINT, to_ns BIGINT)[]"
)
#: What an update sets to ``columns``.
SET_COLUMNS = f"signs = $signs::VARCHAR[], causes = $causes::{CAUSES}, stretches = $stretches::{STRETCHES}"


@dataclass(frozen=True, slots=True)
class Known:
    """A row of the table ``trouble``."""

    key: str
    incident: str | None
    operation: Operation
    start_ns: int
    end_ns: int | None
    lasted: tuple[Lasted, ...]
    least_ns: Mapping[Sign, int]  # of each sign that is a cause
    split_from: str | None  # the incident that it was part of until another cause had taken over


def read_troubles(cursor: duckdb.DuckDBPyConnection, where: str, values: Mapping[str, Any]) -> list[Known]:
    """The troubles of which ``where`` is true."""
    rows = cursor.execute(
        "SELECT trouble, incident, service, operation, start_ns, noticed_ns, end_ns, signs, causes, stretches,"
        f" split_from FROM trouble WHERE {where}",
        dict(values),
    ).fetchall()
    found = []
    for key, incident, service, operation, start_ns, noticed_ns, end_ns, signs, causes, stretches, split_from in rows:
        least_ns = {
            Sign("cause", cause["cause"], cause["service"], cause["address"]): cause["least_ns"] for cause in causes
        }
        # One that an earlier version wrote has no stretches: each sign was seen all the time.
        whole = Stretch(start_ns, noticed_ns, end_ns)
        lasted = (
            tuple((sign, whole) for sign in (*(Sign(kind) for kind in signs if kind != "cause"), *least_ns))
            if stretches is None
            else tuple(_read(stretch) for stretch in stretches)
        )
        found.append(Known(key, incident, (service, operation), start_ns, end_ns, lasted, least_ns, split_from))
    return found


def columns(lasted: Iterable[Lasted], least_ns: Mapping[Sign, int]) -> dict[str, list[Any]]:
    """The columns ``signs``, ``causes`` and ``stretches``."""
    ordered = sorted(lasted, key=lambda item: (item[0], item[1].from_ns))
    return {
        "signs": sorted({sign.kind for sign, _ in ordered}),
        "causes": [
            {"cause": sign.cause, "service": sign.service, "address": sign.address, "least_ns": least_ns[sign]}
            for sign in dict.fromkeys(sign for sign, _ in ordered if sign.kind == "cause" and sign in least_ns)
        ],
        "stretches": [asdict(sign) | asdict(stretch) for sign, stretch in ordered],
    }


def _read(stretch: Mapping[str, Any]) -> Lasted:
    return (
        Sign(stretch["kind"], stretch["cause"], stretch["service"], stretch["address"]),
        Stretch(stretch["from_ns"], stretch["noticed_ns"], stretch["to_ns"]),
    )


def key_of(operation: Operation, start_ns: int) -> str:
    return resource_key({"service": operation[0], "operation": operation[1], "start_ns": str(start_ns)})[:12]


def near(one: Stretch, other: Stretch) -> bool:
    """Whether there is no more than ``GAP_NS`` between them."""
    first, second = sorted((one, other), key=lambda each: each.from_ns)
    return first.to_ns is None or second.from_ns <= first.to_ns + GAP_NS


def owner(item: Lasted, known: Sequence[Known]) -> Known:
    """Of troubles of one operation, in order of start, the one that a stretch belongs to."""
    sign, stretch = item
    for one in reversed(known):
        if any(sign == of_it and near(stretch, known_stretch) for of_it, known_stretch in one.lasted):
            return one
    begun_before = [one for one in known if stretch.to_ns is None or one.start_ns < stretch.to_ns]
    return begun_before[-1] if begun_before else known[0]
