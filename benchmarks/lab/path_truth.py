"""The truth about a request where faults do not add up: what the kernel saw its threads do along its critical path.

The path (which span was waited for when) is the server's; what each thread did in its stretch of it is the kernel's own
trace, and no counter that a verdict also reads.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.lab import tracefs
from benchmarks.lab.truth import Trace, host_tid
from layerline_api.demo.ask import Ask
from layerline_api.demo.place import DemoError

#: What the trace can say, by the cause that must be blamed for it.
CAUSES = {
    "container.cpu_throttled": "throttled_ns",
    "app.cpu_crowded": "crowded_ns",
    "host.cpu_contended": "contended_ns",
}
SPANS_S = 6.0


@contextmanager
def recording(cpus: Collection[int]) -> Iterator[Trace | None]:
    """Record what the kernel does meanwhile; None where it cannot be had here (``tracefs.why_not``)."""
    if tracefs.why_not() is not None:
        yield None
        return
    with Trace(cpus) as trace:
        yield trace


def along_path(trace: Trace, ask: Ask, trace_id: str, container_id: str, container_pid: int) -> dict[str, int]:
    """Nanoseconds by cause on the stretches of the path that this container's threads owned.

    DemoError if the spans do not come; LookupError or ``TraceError`` where the kernel cannot say.
    """
    body = _spans(ask, trace_id)
    spans = {span["span_id"]: span for span in body["spans"]}
    root = min(body["spans"], key=lambda span: _utc_ns(span["start"]))
    begun_ns = _utc_ns(root["start"])
    own = threads_beside(container_pid)
    sums: Counter[str] = Counter()
    for segment in body["segments"]:
        span = spans[segment["span_id"]]
        if span["container_id"] != container_id or span["thread_id"] is None:
            continue
        from_ns = begun_ns + segment["offset_ns"]
        found = trace.of(host_tid(container_pid, span["thread_id"]), from_ns, from_ns + segment["length_ns"], own)
        for cause, figure in CAUSES.items():
            sums[cause] += getattr(found, figure)
    return dict(sums)


def threads_beside(container_pid: int) -> set[int]:
    """Every thread of the container that this process belongs to, by its number outside: its pid namespace tells."""
    inside = Path(f"/proc/{container_pid}/ns/pid").readlink()
    found: set[int] = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and (process / "ns/pid").readlink() == inside:
                found |= {int(task.name) for task in (process / "task").iterdir()}
        except OSError:
            continue  # it ended while we looked, or is not ours to see
    return found


def _spans(ask: Ask, trace_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + SPANS_S
    while True:
        body = ask.body(f"traces/{trace_id}")
        if body is not None and body["segments"]:
            return body
        if time.monotonic() > deadline:
            raise DemoError(f"no spans of trace {trace_id} came within {SPANS_S:.0f} s")
        time.sleep(0.3)


def _utc_ns(text: str) -> int:
    """RFC 3339 with nanoseconds, as the API writes it."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
