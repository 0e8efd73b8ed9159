"""The cases of a run as labels for ``layerline evaluate``: ``python -m benchmarks.lab.labels FOLDER``.

Writes ``labels.jsonl`` into the run's folder. What evaluate then says of the kept stores is the lab's own score, of
verdicts asked for anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.lab.folder import Folder
from benchmarks.lab.record import Record
from benchmarks.lab.score import HEALTHY_KINDS


def label(record: Record, folder: Path) -> dict[str, Any] | None:
    """The label of one case; None where there is no store or no request to judge."""
    store = Folder(folder).store_of(record.piece) / "layerline"
    if record.failure is not None or record.verdict is None or not store.is_dir():
        return None
    return {
        "name": f"{record.number} {record.fault} {record.way}",
        "store": str(store.relative_to(folder)),
        "trace": record.trace_id,
        "quiet": record.kind in HEALTHY_KINDS,
        "fault": [
            {"entity": truth.entity_id, "cause": truth.cause, "also": truth.also, "ms": truth.truth_ns / 1e6}
            for truth in record.truths
        ],
        "expects_blind": record.blind is not None,
        "set_aside": "other work disturbed it" if record.disturbed else None,
    }


def labels(folder: Path) -> Iterator[dict[str, Any]]:
    """Those of all cases, store by store."""
    for record in sorted(Folder(folder).records(), key=lambda one: (one.piece, one.number)):
        found = label(record, folder)
        if found is not None:
            yield found


if __name__ == "__main__":
    run = Path(sys.argv[1])
    (run / "labels.jsonl").write_text("".join(json.dumps(one) + "\n" for one in labels(run)), encoding="utf-8")
