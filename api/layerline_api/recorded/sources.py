"""Which files are to be read, and as what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerline_api.recorded import clickhouse, jaeger, otlp_files, rcaeval
from layerline_api.recorded.content import content
from layerline_api.recorded.gathered import Reader, Unreadable

FORMATS = ("auto", "otlp", "jaeger", "rcaeval", "clickhouse")

_BEGIN_BYTES = 2**16
_FIRST_NAME = re.compile(rb'\s*\{\s*"([^"]*)"')
#: The names with which an answer of Jaeger's API may begin.
_JAEGER = (b"data", b"total", b"limit", b"offset", b"errors")


@dataclass(frozen=True, slots=True)
class Source:
    """A file, what it is taken for, and what reads it."""

    path: Path
    format: str
    read: Reader


def sources(paths: Sequence[Path], wanted: str) -> list[Source]:
    """The files of these paths. ``Unreadable`` and OSError for the first that is none."""
    return [source for path in paths for source in _of(path.resolve(), wanted)]


def _of(path: Path, wanted: str) -> Iterator[Source]:
    if path.is_dir():
        found = rcaeval.files_of(path) if wanted in ("auto", "rcaeval") else []
        if not found and wanted in ("auto", "clickhouse") and (tables := clickhouse.tables_in(path)):
            yield from (Source(table, "clickhouse", clickhouse.read) for table in tables)
            return
        if not found:
            raise Unreadable(f"{path} is a folder: {_no_case(path)}")
        for file, reader in found:
            yield Source(file, "rcaeval", reader)
        return
    if wanted == "rcaeval":
        raise Unreadable(f"{path} is not a folder: expected a case of RCAEval ({_CASE})")
    found_format = wanted if wanted != "auto" else _guess(path)
    yield Source(path, found_format, _READERS[found_format])


_CASE = f"{', '.join(f'{name}.csv' for name in ('traces', 'metrics', 'logs'))} or .parquet, {rcaeval.INJECT_TIME}"


def _no_case(path: Path) -> str:
    cases = sorted({str(file.parent) for file in path.glob(f"**/{rcaeval.INJECT_TIME}")})
    if cases:
        return f"there are {len(cases)} cases of RCAEval below it; name one, such as {cases[0]}"
    return f"expected a case of RCAEval ({_CASE}), or files of OTLP or Jaeger by their names"


_READERS: dict[str, Reader] = {"jaeger": jaeger.read, "otlp": otlp_files.read, "clickhouse": clickhouse.read}


def _guess(path: Path) -> str:
    if clickhouse.is_table(path):
        return "clickhouse"
    with content(path) as stream:
        begin = stream.read(_BEGIN_BYTES).removeprefix(b"\xef\xbb\xbf")
    if begin.lstrip()[:1] != b"{":
        return "otlp"  # messages behind their lengths, or nothing; the reader says what it finds
    name = _FIRST_NAME.match(begin)
    if name is not None and name[1] in _JAEGER:
        return "jaeger"
    if name is None or name[1].decode(errors="replace") in otlp_files.SIGNALS:
        return "otlp"
    expected = f"{', '.join(otlp_files.SIGNALS)} (OTLP) or data (Jaeger)"
    raise Unreadable(
        f"{path} is JSON, but begins with {name[1][:40].decode(errors='replace')!r}: expected {expected};"
        " --format names what it is"
    )
