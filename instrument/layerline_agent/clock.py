"""Whether the machine's clock was set: readings from before and after that do not lie on one timeline."""

from __future__ import annotations

import time
from collections.abc import Callable

from layerline.attributes import CLOCK_STEP_NS, CLOCK_STEPPED, SEEN_FROM_NS, SEEN_TO_NS
from layerline_agent.files import File
from layerline_agent.noticed import Noticed

#: Less than this between two looks is a clock that is slewed, not set.
STEP_NS = 250_000_000
#: Two looks at the uptime around one at the clock; if they are further apart, this thread had to wait in between.
TOGETHER_NS = 50_000_000


class ClockWatch:
    """Compares the clock with the time since boot, which nobody can set.

    Source: ``/proc/uptime``, seconds with two decimals. It counts while the machine is suspended, which
    ``CLOCK_MONOTONIC`` does not: there, each suspension would look like a step.
    """

    def __init__(self, uptime: str, clock: Callable[[], int] = time.time_ns) -> None:
        self._uptime = File(uptime)
        self._clock = clock
        self._last: tuple[int, int] | None = None

    def look(self) -> Noticed | None:
        """What was noticed since the last look. OSError or ValueError where the uptime cannot be read."""
        before_ns, now_ns, after_ns = self._uptime_ns(), self._clock(), self._uptime_ns()
        if before_ns is None or after_ns is None or after_ns - before_ns > TOGETHER_NS:
            return None
        last, self._last = self._last, (before_ns, now_ns)
        if last is None:
            return None
        expected_ns = last[1] + before_ns - last[0]
        step_ns = now_ns - expected_ns
        if abs(step_ns) < STEP_NS:
            return None
        way = "ahead" if step_ns > 0 else "back"
        about = {CLOCK_STEP_NS: step_ns, SEEN_FROM_NS: min(expected_ns, now_ns), SEEN_TO_NS: max(expected_ns, now_ns)}
        return Noticed(CLOCK_STEPPED, now_ns, f"the machine's clock was set {abs(step_ns) / 1e9:.1f} s {way}", about)

    def close(self) -> None:
        """Give the file back."""
        self._uptime.close()

    def _uptime_ns(self) -> int | None:
        content = self._uptime.read()
        return None if content is None else round(float(content.split()[0]) * 1e9)
