"""The kernel's account of a request's path, also of the thread that it waits for and of threads that are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.census import Census
from benchmarks.lab.path_truth import Seen, along_path
from benchmarks.lab.tracefs import Queued, Refill, Switch, TraceError
from benchmarks.lab.truth import Account

MS = 1_000_000
CONTAINER = "c" * 64
#: The request's thread and the holder's, outside; inside they are 7 and 8. The third is somebody else's.
REQUEST, HOLDER, OTHER = 107, 108, 900
QUOTA = "0xquota"


def account() -> Account:
    """100 ms on one CPU. The request runs until 10 and falls asleep for a lock; the holder has the CPU until 20, is
    held back by its quota until 60, stands behind another container until 70, and gives the lock back at 80.
    """
    return Account(
        [
            Switch(0, 0, 0, "S", REQUEST),
            Queued(5 * MS, 0, HOLDER, False),
            Switch(10 * MS, 0, REQUEST, "S", HOLDER),
            Switch(20 * MS, 0, HOLDER, "R+", OTHER),
            Refill(60 * MS, QUOTA),
            Switch(70 * MS, 0, OTHER, "R", HOLDER),
            Queued(80 * MS, 0, REQUEST, False),
            Switch(80 * MS, 0, HOLDER, "S", REQUEST),
        ],
        0,
        100 * MS,
        {0},
    )


def body(from_ms: int = 0, length_ms: int = 100, container: str = CONTAINER) -> dict[str, Any]:
    """A trace with one span of the request's thread, as the API gives it."""
    return {
        "spans": [
            {"span_id": "a", "start": "1970-01-01T00:00:00.000000000Z", "container_id": container, "thread_id": 7},
        ],
        "segments": [{"span_id": "a", "offset_ns": from_ms * MS, "length_ns": length_ms * MS}],
    }


def seen(holder: int | None) -> Seen:
    """The recording with what was seen of the threads."""
    return Seen(account(), {7: REQUEST, 8: HOLDER}, {REQUEST, HOLDER}, holder)


def test_what_held_the_holder_back_counts_for_the_request() -> None:
    """While the request sleeps for the lock, the waits of the thread that has it are the request's; its work is not."""
    assert along_path(seen(holder=8), body(), CONTAINER) == {
        "container.cpu_throttled": 40 * MS,
        "app.cpu_crowded": 0,
        "host.cpu_contended": 10 * MS,
    }


def test_only_while_the_request_waits() -> None:
    """Outside the request's stretch of the path, what the holder does is nobody's business here."""
    assert along_path(seen(holder=8), body(50, 15), CONTAINER) == {
        "container.cpu_throttled": 10 * MS,
        "app.cpu_crowded": 0,
        "host.cpu_contended": 5 * MS,
    }


def test_without_a_holder_sleep_is_sleep() -> None:
    """The look-alike: a request that sleeps beside a thread that is held back was not held back."""
    assert set(along_path(seen(holder=None), body(), CONTAINER).values()) == {0}


def test_what_the_trace_does_not_hold_is_an_error() -> None:
    """A thread that nobody saw and a path without the container are errors that say so, never a zero."""
    with pytest.raises(TraceError, match="thread 9 of the container was never seen from outside, only 7, 8"):
        along_path(seen(holder=9), body(), CONTAINER)
    with pytest.raises(TraceError, match="no stretch of the path has a thread of container cccccccccccc"):
        along_path(seen(holder=8), body(container="d" * 64), CONTAINER)


def test_a_thread_that_is_gone_is_still_known(tmp_path: Path) -> None:
    """A census maps numbers inside to numbers outside, over all processes of the container, and forgets no thread."""

    def thread(pid: int, tid: int, inside: int, namespace: str = "pid:[1]") -> Path:
        (tmp_path / f"{pid}/ns").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{pid}/ns/pid").unlink(missing_ok=True)
        (tmp_path / f"{pid}/ns/pid").symlink_to(namespace)
        task = tmp_path / f"{pid}/task/{tid}"
        task.mkdir(parents=True)
        (task / "status").write_text(f"Name:\tgunicorn\nNSpid:\t{tid}\t{inside}\n")
        return task

    thread(100, 100, 1)
    gone = thread(200, 201, 7)
    thread(300, 300, 1, "pid:[2]")
    census = Census(100, tmp_path)
    census.look()
    (gone / "status").unlink()
    gone.rmdir()
    thread(200, 202, 8)
    census.look()
    assert census.outside == {1: 100, 7: 201, 8: 202}
    assert census.all == {100, 201, 202}
