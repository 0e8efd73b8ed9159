"""The waterfall of one request: its spans as rows, each span's own time split by cause, the critical path.

The stored ledgers hold sums over the request; what each span lost to each cause is worked out anew when somebody asks,
from what is stored now. The dataclasses are, name for name, the JSON of ``GET /api/v1/traces/<trace_id>/waterfall``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import duckdb

from layerline_correlator.entity import Entity, Naming
from layerline_correlator.ledger.work import work_out_evidence
from layerline_correlator.questions.folded import Folded, Spanned, fold
from layerline_correlator.questions.trace import TraceLog, TraceSpan, kind_word, read_logs, read_spans
from layerline_correlator.store.sealed import narrow_to_traces
from layerline_correlator.store.statements import begin_anew, first_row
from layerline_correlator.times import rfc3339

#: Stretches of the path that are closer than this share of what is shown are one.
_NEAR = 1 / 2_000

_NODES = """
SELECT span_no, parent_no, span_id, coalesce(service, '') AS service, name, kind, start_ns, end_ns, container_id, host
FROM node ORDER BY start_ns, span_no
"""
_ASKED = """
SELECT request_no, start_ns, end_ns, refusal.request_no IS NOT NULL AS refused
FROM entry LEFT JOIN refusal USING (request_no)
WHERE span_id = $span_id OR ($span_id IS NULL AND root)
ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1
"""
_SEGMENTS = "SELECT span_no, from_ns, to_ns FROM segment WHERE request_no = $request_no ORDER BY from_ns"
_EVIDENCE = """
SELECT span_no, cause, evidence.entity_type, evidence.entity_id, sum(lost_ns)::BIGINT AS lost_ns,
       bool_or(evidence.inferred) AS inferred
FROM evidence JOIN piece USING (piece_no)
WHERE request_no = $request_no
GROUP BY ALL HAVING sum(lost_ns) > 0
"""


@dataclass(frozen=True, slots=True)
class Share:
    """What one cause took of a row's own time."""

    cause: str
    layer: str
    entity: Entity
    lost_ns: int
    inferred: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the critical path that the row's spans were waited for themselves; from the request's start."""

    offset_ns: int
    length_ns: int


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """A span, or several alike; ``own_ns`` of all rows add up to the request's duration where nothing is left out."""

    span: TraceSpan
    """The span; of several alike the longest."""
    depth: int
    offset_ns: int
    """From the request's start; negative where clocks disagree."""
    duration_ns: int
    """From the begin of the first to the end of the last."""
    alike: int
    """How many spans the row stands for, besides those below them."""
    total_ns: int
    """How long those took, added up."""
    below: int
    """Spans below that have no row: what they lost is in this one."""
    own_ns: int
    """How long the request waited for just these spans."""
    unexplained_ns: int
    shares: list[Share]
    """By cause and entity, in the order of layers; they and what is unexplained add up to ``own_ns``."""
    path: list[Stretch]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The waterfall of one request of a trace, or of what is below one of its spans."""

    trace_id: str
    span_id: str
    """The request's entry span."""
    start: str
    duration_ns: int
    """The request's."""
    under: str | None
    """The span below which rows were asked for."""
    from_ns: int
    to_ns: int
    """What is shown of the time, from the request's start."""
    spans: int
    """How many there are below what is shown."""
    elsewhere: int
    """Spans of the trace that are not below it."""
    rows: list[WaterfallRow]
    container_ids: list[str]
    hosts: list[str]
    """Where the spans ran."""
    logs: list[TraceLog]
    logs_left_out: int


_ORDER = {layer: place for place, layer in enumerate(("app", "dependency", "network", "container", "host"))}


def read_waterfall(
    cursor: duckdb.DuckDBPyConnection, trace_id: str, span_id: str | None, under: str | None, name: Naming
) -> Waterfall | None:
    """The waterfall of the trace's root request, or of the one of ``span_id``; None where there is none.

    ``under``: rows for what is below this span only, its children not folded.
    """
    around = narrow_to_traces(cursor, [trace_id])
    known = first_row(cursor.execute("SELECT min(start_ns), max(start_ns) FROM span WHERE trace_id = ?", [trace_id]))
    if known is None or known[0] is None:
        return None
    _work_out(cursor, trace_id, known[0], known[1])
    asked = first_row(cursor.execute(_ASKED, {"span_id": span_id}))
    if asked is None:
        return None
    request_no, start_ns, end_ns, refused = asked
    nodes = cursor.execute(_NODES).fetchall()
    bound = {"request_no": request_no}
    segments: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for span_no, from_ns, to_ns in cursor.execute(_SEGMENTS, bound).fetchall():
        segments[span_no].append((from_ns, to_ns))
    shares: dict[int, list[tuple[str, str, str, int, bool]]] = defaultdict(list)
    for span_no, *share in [] if refused else cursor.execute(_EVIDENCE, bound).fetchall():
        shares[span_no].append(tuple(share))
    spans = [
        Spanned(
            number=span_no,
            parent=parent_no,
            kind=(service, called, kind_word(kind)),
            start_ns=begin_ns,
            end_ns=stop_ns,
            path_ns=sum(to_ns - from_ns for from_ns, to_ns in segments.get(span_no, ())),
        )
        for span_no, parent_no, _, service, called, kind, begin_ns, stop_ns, _, _ in nodes
    ]
    by_number = {row[0]: row for row in nodes}
    top = next((row[0] for row in nodes if row[2] == under), None) if under else request_no
    if top is None:
        return None
    folded = fold(spans, top, open_top=under is not None)
    narrow_to_traces(cursor, [trace_id], around)
    details = read_spans(cursor, [row.number for row in folded])
    logs, more_logs = read_logs(cursor, trace_id)
    top_row = by_number[top]
    from_ns, to_ns = (0, end_ns - start_ns) if top == request_no else (top_row[6] - start_ns, top_row[7] - start_ns)
    near_ns = int((to_ns - from_ns) * _NEAR)
    spans_shown = [number for row in folded for number in row.members]
    return Waterfall(
        trace_id=trace_id,
        span_id=by_number[request_no][2],
        start=rfc3339(start_ns),
        duration_ns=end_ns - start_ns,
        under=under,
        from_ns=from_ns,
        to_ns=to_ns,
        spans=len(spans_shown),
        elsewhere=len(nodes) - len(spans_shown),
        rows=[_row(row, details[row.number], start_ns, segments, shares, near_ns, name) for row in folded],
        container_ids=sorted({row[8] for row in map(by_number.__getitem__, spans_shown) if row[8] is not None}),
        hosts=sorted({row[9] for row in map(by_number.__getitem__, spans_shown) if row[9] is not None}),
        logs=logs,  # type: ignore[arg-type]  # as `Trace` has them
        logs_left_out=more_logs,
    )


def _work_out(cursor: duckdb.DuckDBPyConnection, trace_id: str, from_ns: int, to_ns: int) -> None:
    """With what was measured; by the spans alone where that cannot be worked out."""
    try:
        work_out_evidence(cursor, trace_id, from_ns, to_ns)
    except duckdb.InterruptException:
        raise
    except duckdb.Error:  # the worker reports it; whoever asks gets what there is
        begin_anew(cursor)
        work_out_evidence(cursor, trace_id, from_ns, to_ns, readings=False)


def _row(
    row: Folded,
    span: dict[str, Any],
    start_ns: int,
    segments: dict[int, list[tuple[int, int]]],
    shares: dict[int, list[tuple[str, str, str, int, bool]]],
    near_ns: int,
    name: Naming,
) -> WaterfallRow:
    lost: dict[tuple[str, str, str], tuple[int, bool]] = {}
    stretches: list[tuple[int, int]] = []
    for number in row.members:
        stretches += segments.get(number, ())
        for cause, kind, identity, lost_ns, inferred in shares.get(number, ()):
            before_ns, before = lost.get((cause, kind, identity), (0, False))
            lost[cause, kind, identity] = (before_ns + lost_ns, before or inferred)
    own_ns = sum(to_ns - from_ns for from_ns, to_ns in stretches)
    found = [
        Share(cause, cause.partition(".")[0], name(kind, identity), lost_ns, inferred)
        for (cause, kind, identity), (lost_ns, inferred) in lost.items()
    ]
    return WaterfallRow(
        span=span,  # type: ignore[arg-type]  # as `Trace` has it
        depth=row.depth,
        offset_ns=row.start_ns - start_ns,
        duration_ns=row.end_ns - row.start_ns,
        alike=row.alike,
        total_ns=row.total_ns,
        below=row.below,
        own_ns=own_ns,
        unexplained_ns=own_ns - sum(share.lost_ns for share in found),
        shares=sorted(found, key=lambda share: (_ORDER.get(share.layer, 9), -share.lost_ns, share.cause)),
        path=[Stretch(from_ns - start_ns, to_ns - from_ns) for from_ns, to_ns in _merged(stretches, near_ns)],
    )


def _merged(stretches: list[tuple[int, int]], near_ns: int) -> list[tuple[int, int]]:
    """In order of time, those that nearly touch as one."""
    out: list[tuple[int, int]] = []
    for from_ns, to_ns in sorted(stretches):
        if out and from_ns - out[-1][1] <= near_ns:
            out[-1] = (out[-1][0], max(out[-1][1], to_ns))
        else:
            out.append((from_ns, to_ns))
    return out
