"""A file's content as a stream of bytes, decompressed where it begins as zstd or gzip do.

Source: RFC 8878 and RFC 1952 for the magic numbers. The OpenTelemetry Collector's file exporter writes zstd: each
message by itself, or (since its feature gate ``exporter.file.nativeCompression``) the file as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_CODEC = {ZSTD: "zstd", GZIP: "gzip"}
_CHUNK_BYTES = 2**20


def codec_of(begin: bytes) -> str | None:
    """The compression that these first bytes tell of; None where it is none."""
    return next((codec for magic, codec in _CODEC.items() if begin.startswith(magic)), None)


@contextmanager
def content(path: Path, offset: int = 0) -> Iterator[BinaryIO]:
    """The content from ``offset`` on. OSError, also where compressed data is damaged."""
    with path.open("rb") as file:
        codec = codec_of(file.read(4))
        if codec is None:
            file.seek(offset)
            yield file
            return
        file.seek(0)
        with io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(file, codec)), _CHUNK_BYTES) as stream:
            while offset > 0:
                passed = len(stream.read(min(offset, _CHUNK_BYTES)))
                if not passed:
                    break
                offset -= passed
            yield stream


def decompressed(message: bytes, limit_bytes: int) -> bytes:
    """A message that may be compressed by itself. OSError where it is damaged, ValueError beyond the limit."""
    codec = codec_of(message)
    if codec is None:
        return message
    with pa.CompressedInputStream(pa.BufferReader(message), codec) as stream:
        found = bytes(stream.read(limit_bytes + 1))
    if len(found) > limit_bytes:
        raise ValueError(f"decompressed it is more than {limit_bytes:,} bytes long")
    return found
