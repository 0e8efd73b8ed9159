"""The truth about a request where faults do not add up: what the kernel saw its threads do along its critical path.

The path (which span was waited for when) is the server's; what each thread did in its stretch of it is the kernel's own
trace, and no counter that a verdict also reads.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchmarks.lab import tracefs
from benchmarks.lab.census import Census
from benchmarks.lab.tracefs import TraceError
from benchmarks.lab.truth import Account, Trace
from layerline_api.demo.ask import Ask
from layerline_api.demo.place import DemoError

#: What the trace can say, by the cause that must be blamed for it.
CAUSES = {
    "container.cpu_throttled": "throttled",
    "app.cpu_crowded": "crowded",
    "host.cpu_contended": "contended",
}
SPANS_S = 6.0


@dataclass(slots=True)
class Seen:
    """What the kernel saw of a container, once the recording is over."""

    account: Account | None = None
    outside: Mapping[int, int] = field(default_factory=dict)
    """Threads of the container: number inside to number outside."""
    own: Collection[int] = ()
    """All of them, by their numbers outside."""
    holder: int | None = None
    """The thread that requests wait for, by its number inside; None: there is none."""


@contextmanager
def recording(cpus: Collection[int], container_pid: int, holder: int | None = None) -> Iterator[Seen | None]:
    """Record what the kernel does meanwhile; None where it cannot be had here (``tracefs.why_not``)."""
    if tracefs.why_not() is not None:
        yield None
        return
    seen = Seen(holder=holder)
    with Census(container_pid) as census, Trace(cpus) as trace:
        yield seen
    seen.account, seen.outside, seen.own = trace.account, census.outside, census.all


def along_path(seen: Seen, body: Mapping[str, Any], container_id: str) -> dict[str, int]:
    """Nanoseconds by cause on the stretches of the path that this container's threads owned.

    ``body``: the trace's spans and segments, as the API gives them. TraceError where the kernel cannot say.
    """
    if seen.account is None:
        raise TraceError("the kernel's trace was not recorded to its end")
    spans = {span["span_id"]: span for span in body["spans"]}
    root = min(body["spans"], key=lambda span: utc_ns(span["start"]))
    begun_ns = utc_ns(root["start"])
    sums: dict[str, int] = {}
    for segment in body["segments"]:
        span = spans[segment["span_id"]]
        if span["container_id"] != container_id or span["thread_id"] is None:
            continue
        from_ns = begun_ns + segment["offset_ns"]
        thread = _outside(seen, span["thread_id"])
        holder = thread if seen.holder is None else _outside(seen, seen.holder)
        kinds = seen.account.held_up(thread, holder, from_ns, from_ns + segment["length_ns"], seen.own)
        for cause, kind in CAUSES.items():
            sums[cause] = sums.get(cause, 0) + kinds.get(kind, 0)
    if not sums:
        raise TraceError(f"no stretch of the path has a thread of container {container_id[:12]}")
    return sums


def spans_of(ask: Ask, trace_id: str) -> dict[str, Any]:
    """A trace's spans and segments. DemoError if they do not come."""
    deadline = time.monotonic() + SPANS_S
    while True:
        body = ask.body(f"traces/{trace_id}")
        if body is not None and body["segments"]:
            return body
        if time.monotonic() > deadline:
            raise DemoError(f"no spans of trace {trace_id} came within {SPANS_S:.0f} s")
        time.sleep(0.3)


def _outside(seen: Seen, number: int) -> int:
    if number not in seen.outside:
        known = ", ".join(map(str, sorted(seen.outside)))
        raise TraceError(f"thread {number} of the container was never seen from outside, only {known}")
    return seen.outside[number]


def utc_ns(text: str) -> int:
    """RFC 3339 with nanoseconds, as the API writes it."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
