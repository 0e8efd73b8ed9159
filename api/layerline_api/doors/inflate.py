"""Decompression with limits, so that a small body cannot become an enormous one, nor take long."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from layerline_api.doors.otlp.problems import Malformed, TooLarge

_GZIP = 16 + zlib.MAX_WBITS
_STEP_BYTES = 256 * 1024
#: What is handed to a member at a time: whatever it leaves is copied, so the copies of many small members stay small.
_FED_BYTES = 32 * 1024
#: No body has more members: `bgzip` begins one for each 64 KiB, others one for each file.
MEMBERS_LIMIT = 4096


def inflate(body: bytes, limit_bytes: int, grown: Callable[[int], None] = lambda size: None) -> bytes:
    """The gzip body decompressed, several members included.

    At most ``limit_bytes`` are ever produced; ``grown`` hears the size so far after each step. ``Malformed`` when it is
    not gzip or ends too early, ``TooLarge`` beyond the limit or with more members than ``MEMBERS_LIMIT``.
    """
    if not body:
        raise Malformed("the body is empty, which is not gzip")
    pieces: list[bytes] = []
    size = members = at = 0
    whole = memoryview(body)
    while at < len(body):
        members += 1
        if members > MEMBERS_LIMIT:
            raise TooLarge(f"the gzip body consists of more than {MEMBERS_LIMIT:,} members")
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            fed = whole[at : at + _FED_BYTES]
            try:
                piece = member.decompress(fed, _STEP_BYTES)
            except zlib.error as problem:
                raise Malformed(f"the body is not gzip: {problem}") from None
            used = len(fed) - len(member.unused_data if member.eof else member.unconsumed_tail)
            if not piece and not used and not member.eof:
                raise Malformed("the gzip body ends too early")
            at += used
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(f"the body is more than {limit_bytes:,} bytes long once decompressed")
            pieces.append(piece)
            grown(size)
        while at < len(body) and body[at] == 0:  # tar pads with zeros; RFC 1952 leaves it to the reader
            at += _zeros(body, at)
    return b"".join(pieces)


def _zeros(body: bytes, at: int) -> int:
    """How many zeros there are from ``at`` on, as far as one step looks."""
    step = body[at : at + _STEP_BYTES]
    return len(step) - len(step.lstrip(b"\0"))
