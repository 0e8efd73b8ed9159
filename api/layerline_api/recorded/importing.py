"""From files into a store of its own: restartable, in bounded memory, with every loss counted and reported.

Rows and how far they were read are written in one transaction (``RecordingRow``), so whoever runs the same import
again after it was killed goes on there, and nothing is there twice. A span, point or event that is in two files is
written once. Then the whole is judged in the order of its own time (``lived.py``): anew when more was recorded than
the last time.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from layerline_api.recorded.content import codec_of
from layerline_api.recorded.gathered import Gathered, Place, Unreadable
from layerline_api.recorded.progress import Stage, stage
from layerline_api.recorded.sources import Source
from layerline_api.words.clean import clean
from layerline_correlator.lived import Judged, Lived, forget
from layerline_correlator.settings import Settings
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import RecordingRow
from layerline_correlator.store.statements import first_row
from layerline_correlator.store.store import Store
from layerline_correlator.times import rfc3339

#: Rows that become durable together; what a kill costs at most, and what is in memory at a time (twice).
BATCH_ROWS = 20_000
#: Problems of one file that are told; the others are counted.
PROBLEMS_TOLD = 10
#: How long the disk may take for a batch.
_PATIENCE_S = 600.0
#: Formats whose places are rows of a table.
_BY_ROWS = ("rcaeval", "clickhouse")
#: How often progress is looked at.
_LOOK_S = 0.2

_HELD = """
SELECT (SELECT count(*) FROM span), (SELECT count(*) FROM point), (SELECT count(*) FROM event),
       coalesce((SELECT sum(rejected) FROM recording), 0)::BIGINT,
       coalesce((SELECT sum(left_out) FROM recording), 0)::BIGINT,
       (SELECT min(first) FROM (SELECT min(start_ns) AS first FROM span
                                UNION ALL SELECT min(time_ns) FROM point UNION ALL SELECT min(time_ns) FROM event)),
       (SELECT max(last) FROM (SELECT max(start_ns) AS last FROM span
                               UNION ALL SELECT max(time_ns) FROM point UNION ALL SELECT max(time_ns) FROM event)),
       (SELECT count(DISTINCT trace_id) FROM request), (SELECT count(DISTINCT trace_id) FROM request WHERE planned = 0)
"""


#: When incidents were, the longest first.
_INCIDENTS = """
SELECT start_ns, end_ns FROM incident
WHERE merged_into IS NULL AND end_ns IS NOT NULL ORDER BY end_ns - start_ns DESC, start_ns
"""

_AMOUNT = """
SELECT (SELECT (count(*), sum(end_ns - start_ns))::VARCHAR FROM hot_span), (SELECT count(*) FROM point),
       (SELECT count(*) FROM event), (SELECT count(*) FROM log)
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
    traces: int  # that have a request
    without_ledger: int  # of these: ordinary ones that were not drawn to get a ledger
    incidents: tuple[tuple[int, int], ...]  # from, to; the longest first


def import_files(
    found: Sequence[Source], settings: Settings, console: Console, *, whole: bool = False
) -> tuple[Held, list[Path]]:
    """Read the files into the store and work out the ledgers; what it holds then, and the files that failed.

    ``whole``: the ledgers of all traces, however many there are.

    ``StoreInUse`` and ``NotARecording`` before anything is written, what ``Store`` raises when it cannot write, and
    RuntimeError when ledgers cannot be worked out (the log says why).
    """
    store = Store(replace(settings, group_ns=0))
    try:
        before = _amount(store)
        failed = _read_all(found, store, console)
        if _amount(store) != before:
            _judge_anew(store)
        _judge(store, settings, console, whole=whole)
        with store.cursor() as cursor:
            counts = first_row(cursor.execute(_HELD)) or ()
            found_there = (*counts, tuple(cursor.execute(_INCIDENTS).fetchall()))
            held = Held(*found_there)
    finally:
        store.close()
    return held, failed


def _amount(store: Store) -> tuple[int, ...]:
    """What changes when something is recorded that was not there before."""
    with store.cursor() as cursor:
        return first_row(cursor.execute(_AMOUNT)) or ()


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
        unit = "row" if self._source.format in _BY_ROWS else "byte"
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
            return None if self._source.format in _BY_ROWS or codec_of(file.read(4)) else self._bytes

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


def _judge_anew(store: Store) -> None:
    """Forget what was judged without what has come now. Hours that are packed into files stay as they are."""
    with store.cursor() as cursor:
        sealed = first_row(cursor.execute("SELECT count(*) > 0 FROM sealed_file"))
    if not (sealed and sealed[0]):
        forget(store)


def _judge(store: Store, settings: Settings, console: Console, *, whole: bool) -> Judged:
    """Work out the ledgers, oldest first, and what incidents there were: questions are answered at once.

    In a thread of its own, so that this one can show how far it is and hears when it is to stop.
    """
    lived = Lived(store, settings, whole=whole)
    total = lived.left
    if not total:
        return Judged(0, 0)
    began = time.monotonic()
    reached = [0, 0]

    def tell(done: int, reached_ns: int) -> None:
        reached[:] = done, reached_ns

    with (
        ThreadPoolExecutor(1, "layerline-judge") as worker,
        stage(console, f"ledgers of {total:,} traces", total) as progress,
    ):
        judged = worker.submit(lived.judge, tell)
        try:
            while not judged.done():
                wait([judged], timeout=_LOOK_S)
                progress.at(reached[0], f"up to {rfc3339(reached[1])[:19]}Z" if reached[1] else "")
        except BaseException:
            lived.stop()
            store.interrupt()
            raise
    found = judged.result()
    drawn = f", {found.left_out:,} ordinary ones left out" if found.left_out else ""
    console.print(f"  ✓ ledgers of {total:,} traces{drawn} ({time.monotonic() - began:.1f} s)", soft_wrap=True)
    return found
