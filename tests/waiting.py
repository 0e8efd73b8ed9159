"""One way to wait for what happens in another thread or process: generous, and over as soon as it is true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

#: The longest that a test waits for anything, in seconds: much, because the machine may do twenty other things as well.
#: Only what never comes takes as long.
PATIENCE_S = 300.0
_EVERY_S = 0.01


def eventually(
    look: Callable[[], Found], what: str = "it", within_s: float = PATIENCE_S, every_s: float = _EVERY_S
) -> Found:
    """What ``look`` returns as soon as that is true; AssertionError says what did not come, and what was there instead.

    Use it for what must happen, never to see how fast: speed is measured in ``benchmarks/``.
    """
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, f"{what} did not come within {within_s:.0f} s; there is {found!r}"
        time.sleep(every_s)
    return found
