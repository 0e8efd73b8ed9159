"""What is said about labelled cases. Their data stays as it is: recordings are imported into, stores copied to, a
folder that is deleted afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import duckdb
from rich.console import Console

from layerline_api.evaluate.floors import FLOORS
from layerline_api.evaluate.labels import FILES, LINES, BadLabel, Label
from layerline_api.evaluate.score import Named, Said
from layerline_api.recorded.importing import import_files
from layerline_api.recorded.sources import Source, sources
from layerline_correlator.correlator import Correlator
from layerline_correlator.facts.names import Names
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.verdict.model import Verdict

#: Whom a rule names, the first first, by the rule's name.
Floors = Mapping[str, tuple[Named, ...]]
#: A store of a case is opened for a moment: nothing of it grows old.
_NEVER_NS, _NEVER_BYTES = 100 * 365 * 86_400 * 10**9, 2**60
#: A request that is judged alone: readings this long around it are those of its time, for the floors.
_AROUND_NS = 2 * 10**9


def all_said(
    found: Sequence[tuple[Path, Label]], settings: Settings, tell: Callable[[str], None]
) -> Iterator[tuple[Label, Said, Floors]]:
    """Each case, what is said about it, and what the floors name. ``BadLabel``, and what an import raises."""
    for (folder, store, data, form), group in groupby(found, key=_place):
        labels = [label for _, label in group]
        tell(f"{folder}: {len(labels)} cases" if len(labels) > 1 else f"{folder}")
        with _opened(folder, store, data, form, settings) as correlator:
            for label in labels:
                yield label, *_said(correlator, label)


def _place(item: tuple[Path, Label]) -> tuple[Path, str | None, tuple[str, ...], str]:
    folder, label = item
    return folder, label.store, label.data, label.format


@contextmanager
def _opened(
    folder: Path, store: str | None, data: tuple[str, ...], form: str, settings: Settings
) -> Iterator[Correlator]:
    with tempfile.TemporaryDirectory(prefix="layerline-evaluate-") as place:
        copy = replace(
            settings,
            store=Path(place) / "store",
            retain_ns=_NEVER_NS,
            retain_bytes=_NEVER_BYTES,
            hot_ns=_NEVER_NS,
        )
        if store is not None:
            if not (folder / store).is_dir():
                raise BadLabel(f"{folder / store}: expected the folder of a store, found none")
            shutil.copytree(folder / store, copy.store)
        else:
            with Path(os.devnull).open("w") as nowhere:
                _, failed = import_files(_files(folder, data, form), copy, Console(file=nowhere))
            if failed:
                raise BadLabel(f"{failed[0]}: it could not be read; `layerline import` says why")
        correlator = Correlator.open(copy)
        try:
            while correlator.behind() and correlator.ready():
                time.sleep(0.05)
            yield correlator
        finally:
            correlator.close()


def _files(folder: Path, data: tuple[str, ...], form: str) -> list[Source]:
    """What a label names; without that, the folder as a whole, or every file in it."""
    if data:
        return sources([folder / name for name in data], form)
    try:
        return sources([folder], form)
    except ValueError:
        others = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in (*FILES, LINES)]
        if not others:
            raise BadLabel(f"{folder}: expected recorded data beside the label, found none") from None
        return sources(others, form)


def _said(correlator: Correlator, label: Label) -> tuple[Said, Floors]:
    verdicts, incidents = [], 0
    window = label.window_ns
    if label.trace is not None:
        verdict = correlator.verdict(label.trace)
        if verdict is None:
            return Said((), (), False, failure=f"the request {label.trace} is not known"), {}
        verdicts = [verdict]
        if window is None:
            window = correlator.ask(_window_of, label.trace)
    elif window is not None:
        verdicts = correlator.verdicts(RequestQuery(*window)).items
        incidents = len(correlator.incidents.list(IncidentQuery(*window)).items)
    return _of(verdicts, incidents), {} if window is None else correlator.ask(_floors, *window)


def _floors(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> Floors:
    name = Names(cursor).entity
    return {title: rule(cursor, from_ns, to_ns, name) for title, rule in FLOORS.items()}


def _window_of(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> tuple[int, int] | None:
    rows = cursor.execute(
        "SELECT min(start_ns), max(end_ns) FROM request WHERE trace_id = $trace_id", {"trace_id": trace_id}
    ).fetchall()
    first_ns, last_ns = rows[0]
    return None if first_ns is None else (first_ns - _AROUND_NS, last_ns + _AROUND_NS)


def _of(verdicts: Sequence[Verdict], incidents: int) -> Said:
    """What they say together: the culprits of the first verdict, then those of the others that it does not name."""
    culprits: dict[tuple[str, str, str], Named] = {}
    parts: list[Named] = []
    for verdict in verdicts:
        of_this = [
            Named(
                part.cause,
                part.entity.type,
                part.entity.id,
                part.entity.name,
                part.service,
                part.lost_ns if part.excess_ns is None else part.excess_ns,
            )
            for part in verdict.parts
        ]
        parts += of_this
        for culprit in verdict.culprits:
            entity = culprit.entity
            same = [one for one in of_this if (one.cause, one.entity_id) == (culprit.cause, entity.id)]
            largest = max(same, key=lambda one: one.excess_ns or 0, default=None)
            culprits.setdefault(
                (culprit.cause, entity.type, entity.id),
                Named(
                    culprit.cause,
                    entity.type,
                    entity.id,
                    entity.name,
                    largest.service if largest else "",
                    largest.excess_ns if largest else None,
                    culprit.layer,
                ),
            )
    first = verdicts[0] if verdicts else None
    return Said(
        tuple(culprits.values()),
        tuple(parts),
        conclusive=first is not None and first.conclusive,
        duration_ns=first.duration_ns if first else 0,
        incidents=incidents,
    )
