"""Who opened a span: a plain function, or one that can be left half way (a generator, a coroutine).

A span that is opened inside a generator's body stays open while the generator is suspended, and the thread then works
for its consumer: such a span was charged 102 ms of it. It is not measured. A ``@contextmanager`` helper is a generator
too, but its caller holds it open on purpose and closes it in order; there the question goes to the caller.

The answer costs a walk over a few frames (0.3 µs), so what is known about a code object is kept.
"""

from __future__ import annotations

import contextlib
import os
import sys
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE
from types import CodeType
from typing import Final

import opentelemetry.trace
from opentelemetry.sdk.trace import Tracer

_CONTEXTLIB: Final = contextlib.__file__
_OURS: Final = os.path.dirname(__file__) + os.sep
_OPENTELEMETRY: Final = os.path.dirname(os.path.dirname(opentelemetry.trace.__file__)) + os.sep

#: The generator inside ``Tracer.start_as_current_span``, and how many frames below us it stands: on_start, the
#: processors' on_start, Span.start, Tracer.start_span.
HELPER: Final = Tracer.start_as_current_span.__wrapped__.__code__  # type: ignore[attr-defined]
_TO_HELPER: Final = 5

_PLAIN, _PASS, _ENTERS, _GENERATOR, _COROUTINE = range(5)
_KNOWN_AT_MOST: Final = 4096  # code made at run time must not pile up here

_known: dict[CodeType, int] = {}


def leaves_halfway() -> str | None:
    """``"generator"`` or ``"coroutine"`` if the code that opens a span can be suspended while it is open, else None.

    Frames of OpenTelemetry (its instrumentations and our caller included), of contextlib and of ``__enter__`` methods
    are passed over: the first other one decides.
    """
    known = _known
    # To look at a frame costs 0.3 µs, to pass over it costs nothing. Most spans are opened by
    # ``with tracer.start_as_current_span(…)``; then seven frames are between its caller and us.
    try:
        frame = sys._getframe(_TO_HELPER)
        frame = sys._getframe(_TO_HELPER + 2) if frame.f_code is HELPER else sys._getframe(1)
    except ValueError:
        frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        kind = known.get(code)
        if kind is None:
            kind = classify(code)
        if kind == _PLAIN:
            return None
        if kind == _GENERATOR:
            enters = frame.f_back
            if enters is None or (known.get(enters.f_code) or classify(enters.f_code)) != _ENTERS:
                return "generator"
            frame = enters
        elif kind == _COROUTINE:
            return "coroutine"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def classify(code: CodeType) -> int:
    """What a function is, as far as spans that it opens are concerned."""
    if len(_known) >= _KNOWN_AT_MOST:
        _known.clear()
    flags, name = code.co_flags, code.co_filename
    if name == _CONTEXTLIB and code.co_name == "__aenter__":
        kind = _ENTERS  # of a helper made with ``@asynccontextmanager``
    elif flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
        kind = _COROUTINE if flags & CO_ITERABLE_COROUTINE else _GENERATOR
    elif flags & CO_COROUTINE:
        kind = _COROUTINE
    elif name == _CONTEXTLIB or name.startswith((_OPENTELEMETRY, _OURS)):
        # A generator below this ``__enter__`` was made with ``@contextmanager`` or OpenTelemetry's version of it.
        kind = _ENTERS if code.co_name == "__enter__" else _PASS
    elif code.co_name == "__enter__":
        kind = _PASS
    else:
        kind = _PLAIN
    _known[code] = kind
    return kind
