"""Health: what the store and the correlator report about themselves."""

from __future__ import annotations

from dataclasses import dataclass

from layerline_correlator.store.caps import NOTHING, Active
from layerline_correlator.store.sizes import StoreSize


@dataclass(frozen=True, slots=True)
class Health:
    """How the store and the correlator are; counts are since the process began."""

    waiting_batches: int  # to be written
    waiting_limit: int  # how many may
    waiting_traces: int  # with spans that are not worked out yet
    lag_ns: int  # how long the oldest of them has been waiting, 0 when none does
    passes: int
    worked_traces: int
    left_out_traces: int  # ordinary ones that were not drawn, while more arrived than the budget allows
    failed_traces: int  # kept without parts
    unread_traces: int  # judged by their spans alone: with what was measured they could not be
    refused_ledgers: int  # their parts did not add up
    used_bytes: int  # of the database file and of sealed hours
    deleted_rows: int  # by retention
    size: StoreSize | None = None  # what everything takes, as it was last measured
    active: Active = NOTHING  # series and senders that send now
    problems: tuple[str, ...] = ()  # what keeps it from taking data or from working it out
