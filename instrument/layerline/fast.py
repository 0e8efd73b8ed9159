"""The C extension ``layerline._fast``, where there is one: the same account and the same bytes in less time.

``thread``, ``account``, ``caller`` and ``encode`` say what is measured and why, in Python; they hand the usual case to
``_fast`` where it can be loaded, and do all else themselves. Nothing is said where it cannot: without a compiler, on an
interpreter without the stable ABI (PyPy, free-threaded builds), in a sub-interpreter. ``LAYERLINE_FAST=off`` does
without it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from threading import get_ident, get_native_id
from typing import Any, Final

from layerline import caller, kernel, thread

#: What this code expects of the extension; another number is that of another version, left behind.
INTERFACE: Final = 2


def load(environ: Mapping[str, str] = os.environ) -> Any:
    """The extension, or None."""
    if environ.get("LAYERLINE_FAST", "").strip().lower() == "off":
        return None
    try:
        _fast: Any = importlib.import_module("layerline._fast")
    except Exception:  # whatever keeps it from loading costs speed and nothing else
        return None
    if getattr(_fast, "INTERFACE", None) != INTERFACE:
        return None
    _fast.connect(thread.merged, caller.classify, sys._getframe, caller.HELPER)
    kernel.use(_fast)
    return _fast


MODULE: Final = load()


def thread_type(module: Any) -> Any:
    """The type of a thread's account, over the extension's."""
    known = _thread_types.get(module)
    if known is None:

        class Thread(module.Thread):  # type: ignore[misc]
            """As ``thread.Thread``."""

            __slots__ = ()

            def __init__(self: Any, delays: bool) -> None:
                self.tid = get_native_id()
                self.ident = get_ident()
                self.why = "unreadable"
                thread.open_files(self, delays)

            def read_blkio(self: Any) -> int:
                """As ``thread.Thread.read_blkio``."""
                return thread.Thread.read_blkio(self)

            def close(self: Any) -> None:
                """As ``thread.Thread.close``."""
                thread.Thread.close(self)

        known = _thread_types[module] = Thread
    return known


_thread_types: dict[Any, Any] = {}
