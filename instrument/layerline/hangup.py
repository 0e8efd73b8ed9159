"""SIGHUP: a program that nobody sits before reads its settings anew; one in a terminal ends with it, as ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any


def in_a_terminal() -> bool:
    """Whether this process has a terminal: SIGHUP then says that it was closed. Source: tty(4), ``/dev/tty``."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def on_hangup(reload: Callable[[], None]) -> bool:
    """Call it at every SIGHUP, in the main thread; whether that was set up.

    ``reload`` must not wait for anything: it may interrupt what the main thread does.
    """
    if in_a_terminal():
        return False
    signal.signal(signal.SIGHUP, lambda number, frame: reload())
    return True


def differences(before: Any, after: Any, variables: Mapping[str, str] | None = None) -> list[str]:
    """The fields of two settings of one class that differ, by the names that the file has for them."""
    named = variables or {}
    return [
        named.get(each.name, each.name)
        for each in fields(before)
        if getattr(before, each.name) != getattr(after, each.name)
    ]
