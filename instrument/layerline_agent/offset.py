"""How far this machine's clock is from the server's, measured by the exchanges that happen anyway.

The server says in a header of its answers when it began to read a request and when it answered, by its clock. With our
times before and after, the difference is known up to half of what the exchange took without the server's own work; of
the last minute the exchange that leaves least open counts. Source: RFC 5905 (NTP), section 8, "On-Wire Protocol".
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple

#: The server's header: two times in ns since 1970.
HEADER: Final = "Layerline-Clock"
#: For how long an exchange counts, in ns: a clock that is off drifts, or is set.
KEPT_NS: Final = 60 * 10**9
_TIMES: Final = re.compile(r"([0-9]{1,19});([0-9]{1,19})")


class Offset(NamedTuple):
    """How far our clock is ahead of the server's (negative: behind), give or take."""

    ahead_ns: int
    uncertain_ns: int


class Offsets:
    """What the exchanges of the last minute say."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, Offset]] = deque()

    def exchanged(self, header: str | None, before_ns: int, after_ns: int) -> None:
        """An exchange began and ended at these times of our clock. What is no pair of times says nothing."""
        times = _TIMES.fullmatch(header or "")
        if times is None:
            return
        took_ns, server_ns = after_ns - before_ns, int(times[2]) - int(times[1])
        if server_ns < 0 or took_ns < server_ns:  # one of the clocks was set meanwhile
            return
        ahead_ns = (before_ns - int(times[1]) + after_ns - int(times[2])) // 2
        self._seen.append((after_ns, Offset(ahead_ns, (took_ns - server_ns) // 2)))
        while abs(after_ns - self._seen[0][0]) > KEPT_NS:
            self._seen.popleft()

    def best(self) -> Offset | None:
        """The offset that is known best; None where the server does not say its time."""
        return min((offset for _, offset in list(self._seen)), key=lambda each: each.uncertain_ns, default=None)
