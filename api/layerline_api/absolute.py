"""A request's verdict ranked by what was lost, not by what was lost beyond the usual (``rank=lost``)."""

from __future__ import annotations

from dataclasses import replace

from layerline_correlator.query import Culprit, Verdict


def without_usual(verdict: Verdict) -> Verdict:
    """The same ledger as if there were no usual: design, section 7.3, for that case.

    Culprits are the parts with at least a tenth of the duration; conclusive when their lower bounds cover half of it.
    """
    duration_ns = verdict.duration_ns
    parts = sorted(
        (replace(part, usual_ns=None, excess_ns=None) for part in verdict.parts), key=lambda part: -part.lost_ns
    )
    blamed = [part for part in parts if part.lost_ns > 0 and part.lost_ns * 10 >= duration_ns]
    return replace(
        verdict,
        usual_ns=None,
        excess_ns=None,
        ranked_by="lost",
        unexplained_usual_ns=None,
        parts=parts,
        culprits=[
            Culprit(part.cause, part.entity, part.lost_ns / duration_ns, duration_ns - part.lost_ns) for part in blamed
        ],
        conclusive=bool(blamed) and 2 * sum(part.low_ns for part in blamed) >= duration_ns,
    )
