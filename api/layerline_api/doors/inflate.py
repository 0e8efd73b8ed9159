"""Decompression with a limit, so that a small body cannot become an enormous one."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from layerline_api.doors.otlp.problems import Malformed, TooLarge

_GZIP = 16 + zlib.MAX_WBITS
_STEP_BYTES = 256 * 1024


def inflate(body: bytes, limit_bytes: int, grown: Callable[[int], None] = lambda size: None) -> bytes:
    """The gzip body decompressed, several members included.

    At most ``limit_bytes`` are ever produced; ``grown`` hears the size so far after each step. ``Malformed`` when it is
    not gzip or ends too early, ``TooLarge`` beyond the limit.
    """
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            try:
                piece = member.decompress(rest, _STEP_BYTES)
            except zlib.error as problem:
                raise Malformed(f"the body is not gzip: {problem}") from None
            rest = member.unconsumed_tail
            if not piece and not rest and not member.eof:
                raise Malformed("the gzip body ends too early")
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(f"the body is more than {limit_bytes:,} bytes long once decompressed")
            pieces.append(piece)
            grown(size)
        rest = member.unused_data.lstrip(b"\0")  # tar pads with zeros; RFC 1952 leaves it to the reader
    if not body:
        raise Malformed("the body is empty, which is not gzip")
    return b"".join(pieces)
