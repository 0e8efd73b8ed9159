"""From files into a store of its own: restartable, in bounded memory, with every loss counted and told.

Rows and how far they were read are written in one transaction (``RecordingRow``), so whoever runs the same import
again after it was killed goes on there, and nothing is there twice. A span, point or event that is in two files is
written once.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from layerline_api.recorded.content import codec_of
from layerline_api.recorded.gathered import Gathered, Place, Unreadable
from layerline_api.recorded.progress import Stage, stage
from layerline_api.recorded.sources import Source
from layerline_api.words.clean import clean
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import RecordingRow
from layerline_correlator.store.statements import first_row
from layerline_correlator.store.store import Store

#: Rows that become durable together; what a kill costs at most, and what is in memory at a time (twice).
BATCH_ROWS = 20_000
#: Problems of one file that are told; the others are counted.
PROBLEMS_TOLD = 10
#: How long the disk may take for a batch.
_PATIENCE_S = 600.0

_HELD = """
SELECT (SELECT count(*) FROM span), (SELECT count(*) FROM point), (SELECT count(*) FROM event),
       coalesce((SELECT sum(rejected) FROM recording), 0)::BIGINT,
       coalesce((SELECT sum(left_out) FROM recording), 0)::BIGINT,
       (SELECT min(first) FROM (SELECT min(start_ns) AS first FROM span
                                UNION ALL SELECT min(time_ns) FROM point UNION ALL SELECT min(time_ns) FROM event)),
       (SELECT max(last) FROM (SELECT max(start_ns) AS last FROM span
                               UNION ALL SELECT max(time_ns) FROM point UNION ALL SELECT max(time_ns) FROM event))
"""


class NotARecording(RuntimeError):
    """The store holds data that was received live."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the recording holds after the import; times of the first and the last, None where it is empty."""

    spans: int
    points: int
    events: int
    rejected: int
    left_out: int
    first_ns: int | None
    last_ns: int | None


def import_files(found: Sequence[Source], settings: Settings, console: Console) -> tuple[Held, list[Path]]:
    """Read the files into the store and work out the ledgers; what it holds then, and the files that failed.

    ``StoreInUse`` and ``NotARecording`` before anything is written, what ``Store`` raises when it cannot write, and
    RuntimeError when ledgers cannot be worked out (the log says why).
    """
    store = Store(replace(settings, group_ns=0))
    try:
        failed = _read_all(found, store, console)
        with store.cursor() as cursor:
            held = Held(*(first_row(cursor.execute(_HELD)) or ()))
    finally:
        store.close()
    _work_out(settings, console)
    return held, failed


def _read_all(found: Sequence[Source], store: Store, console: Console) -> list[Path]:
    with store.cursor() as cursor:
        known = {
            row[0]: RecordingRow(*row)
            for row in cursor.execute(
                'SELECT source, bytes, modified_ns, "offset", line, inside, rejected, left_out, finished FROM recording'
            ).fetchall()
        }
        received = first_row(cursor.execute("SELECT count(*) FROM resource"))
    if not known and received and received[0]:
        raise NotARecording("it holds data that was received by a server")
    failed = []
    with ThreadPoolExecutor(1, "layerline-import") as writer:
        for number, source in enumerate(found, 1):
            of = f" ({number} of {len(found)})" if len(found) > 1 else ""
            title = f"{clean(source.path.name)}, {source.format}{of}"
            if not _File(source, store, writer, console, title).read(known.get(str(source.path))):
                failed.append(source.path)
    return failed


class _File:
    """One file on its way into the store."""

    def __init__(self, source: Source, store: Store, writer: ThreadPoolExecutor, console: Console, title: str) -> None:
        self._source, self._store, self._writer, self._console, self._title = source, store, writer, console, title
        stat = source.path.stat()
        self._bytes, self._modified_ns = stat.st_size, stat.st_mtime_ns
        self._told = 0
        self._gathered = Gathered(self._tell)
        self._written: Future[tuple[Exceeded, ...]] | None = None
        self._rows = 0

    def read(self, before: RecordingRow | None) -> bool:
        """Read on where it was left, or from the beginning when it is another file. False when it could not be read."""
        place = Place()
        if before is not None and (before.bytes, before.modified_ns) == (self._bytes, self._modified_ns):
            if before.finished:
                self._console.print(f"  ✓ {self._title}: was imported before", soft_wrap=True)
                return True
            place = Place(before.offset, before.line, before.inside)
            self._gathered.rejected, self._gathered.left_out = before.rejected, before.left_out
        unit = "row" if self._source.format == "rcaeval" else "byte"
        again = f", going on at {unit} {place.offset:,}" if place.offset else ""
        began = time.monotonic()
        problem: Exception | None = None
        with stage(self._console, f"{self._title}{again}", self._total()) as progress:
            try:
                for reached in self._source.read(self._source.path, place, self._gathered):
                    place = reached
                    if self._gathered.rows >= BATCH_ROWS:
                        self._write(place, progress)
            except (Unreadable, OSError, csv.Error, pa.ArrowException) as found:
                problem = found
            self._write(place, progress, finished=problem is None)
            before_last = self._gathered.rejected
            self._wait()
            if self._gathered.rejected > before_last:  # of the last rows: the count is kept, too
                self._write(place, progress, finished=problem is None)
                self._wait()
        if self._told > PROBLEMS_TOLD:
            self._console.print(f"    and {self._told - PROBLEMS_TOLD:,} problems more", soft_wrap=True)
        if problem is not None:
            self._console.print(f"  ✗ {self._title}: {clean(problem)}", soft_wrap=True)
            return False
        rejected = f", {self._gathered.rejected:,} could not be read" if self._gathered.rejected else ""
        self._console.print(
            f"  ✓ {self._title}: {self._rows:,} rows{rejected} ({time.monotonic() - began:.1f} s)", soft_wrap=True
        )
        return True

    def _total(self) -> int | None:
        """The file's size where places are bytes of it."""
        with self._source.path.open("rb") as file:
            return None if self._source.format == "rcaeval" or codec_of(file.read(4)) else self._bytes

    def _write(self, place: Place, progress: Stage, finished: bool = False) -> None:
        """Hand on what was gathered; one batch is written while the next is read."""
        gathered = self._gathered
        self._rows += gathered.rows
        progress.at(place.offset, f"{self._rows:,} rows")
        batch = gathered.take()
        batch.recordings.append(
            RecordingRow(
                str(self._source.path),
                self._bytes,
                self._modified_ns,
                *place,
                gathered.rejected,
                gathered.left_out,
                finished,
            )
        )
        self._wait()
        self._written = self._writer.submit(self._store.append, batch, _PATIENCE_S)

    def _wait(self) -> None:
        if self._written is not None:
            for one in self._written.result():  # counted in the store with the next rows
                items = 0 if one.item == "tag" else one.items
                self._gathered.reject(f"{one.kind} {one.name!r} of {one.sender!r}", one.why, items)
            self._written = None

    def _tell(self, problem: str) -> None:
        self._told += 1
        if self._told <= PROBLEMS_TOLD:
            self._console.print(f"    {clean(self._source.path)}, {clean(problem)}", soft_wrap=True)


def _work_out(settings: Settings, console: Console) -> None:
    """Work out every request's ledger, oldest first, and what incidents there were: questions are answered at once."""
    correlator = Correlator.open(settings)
    try:
        total = correlator.behind()
        if not total:
            return
        began = time.monotonic()
        with stage(console, f"ledgers of {total:,} traces", total) as progress:
            while (behind := correlator.behind()) and correlator.ready():
                progress.at(total - behind)
                time.sleep(0.1)
        if behind:
            raise RuntimeError(f"the ledgers of {behind:,} traces could not be worked out")
        correlator.look_for_incidents()
        console.print(f"  ✓ ledgers of {total:,} traces ({time.monotonic() - began:.1f} s)", soft_wrap=True)
    finally:
        correlator.close()
