"""OTLP comes in here: a request's body, protobuf or JSON, becomes a ``Batch`` of plain rows."""

from __future__ import annotations

from layerline_api.doors.otlp.decode import DECODERS, Decoded, decode
from layerline_api.doors.otlp.problems import Malformed, TooLarge

__all__ = ["DECODERS", "Decoded", "Malformed", "TooLarge", "decode"]
