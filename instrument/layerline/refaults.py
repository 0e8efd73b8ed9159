"""How many pages a container had to read again because it had run into its own memory limit.

Sources: ``memory.stat``, ``workingset_refault_file`` and ``_anon`` (pages, Linux 5.9; before, ``workingset_refault``;
on v1 with ``total_``, the groups below included): a page counts when it comes back soon after it was thrown out. To
read that file makes the kernel add up its counters of all CPUs: 20 to 50 µs. So the cheap count of hits of the limit is
asked first (v1 ``memory.failcnt``; v2 ``max`` and ``high`` of ``memory.events``; kernel's cgroup-v1/memory.rst,
cgroup-v2.rst), and while it stands still the answer is 0, without reading. Such a request pays on v2 nothing but two
calls, as that file is read for its kills anyway, and on v1 two more readings of 1.3 µs; one that hits the limit pays
what memory.stat costs.

What that means at the edges:

* From the last reading before the request's start to its end: where other requests or work outside of any refaulted in
  between, that is in it. A start that finds hits newer than a reading 10 ms old reads again, so the stretch is short
  just where it matters; requests at once are each told of all that their container refaulted, like any other meter.
* A limit of a cgroup above the container throws out its pages as well, and ``memory.stat`` of the container counts
  those that come back. So hits of the limits above are asked for too, as far as they are mounted here and while there
  is a limit (v2 ``memory.events.local``, Linux 5.2, else ``memory.events``). A container with a cgroup namespace of its
  own sees none of them: there the agent on the machine says whether such a limit was hit.
* Pages that the machine threw out hit no limit: no growth, 0. A little of them is in it where a limit was hit too, at
  most that of a second of a slow service.
* The kernel charges 64 pages at once (``MEMCG_CHARGE_BATCH``), so fewer than that for each CPU can come back unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerline.kernel import File
from layerline.quota import keyed

_MOST_BYTES: Final = 16_384
_V1: Final = re.compile(rb"^total_workingset_refault(?:_file|_anon)? (\d+)", re.MULTILINE)
_V2: Final = re.compile(rb"^workingset_refault(?:_file|_anon)? (\d+)", re.MULTILINE)
#: At the end of a request this long, a reading older than this is made anew, so that none is ever far from now (ns).
_LONG_NS: Final = 50_000_000
_OLD_NS: Final = 1_000_000_000
#: A reading this young stands for a request's start even if the limit has been hit since (ns).
_YOUNG_NS: Final = 10_000_000


#: From here on a v1 limit is none: the largest multiple of a page that the kernel can count.
_NO_LIMIT: Final = 1 << 62
#: Limits are read again after this long (ns).
_CHECK_NS: Final = 1_000_000_000


def limit_hits(raw: bytes) -> int | None:
    """``memory.events``: hits of ``memory.max`` and of ``memory.high``, which takes pages back just the same."""
    hits = [found for key in (b"max", b"high") if (found := keyed(key, 1)(raw)) is not None]
    return sum(hits) if hits else None


class Above:
    """A cgroup above the container: how often its memory limit was hit, and whether it has one."""

    def __init__(self, folder: Path, unified: bool) -> None:
        """Raises OSError if it has no limit and never can."""
        self._unified = unified
        local = folder / "memory.events.local"
        counts = (local if local.exists() else folder / "memory.events") if unified else folder / "memory.failcnt"
        self._counts = File(str(counts), 1024)
        self._limits: list[File] = []
        try:
            for name in ("memory.max", "memory.high") if unified else ("memory.limit_in_bytes",):
                self._limits.append(File(str(folder / name), 64))
        except OSError:
            self.close()
            raise

    def is_limited(self) -> bool:
        """Whether it has a limit now. Raises OSError or ValueError."""
        limits = [file.read().strip() for file in self._limits]
        return any(limit != b"max" and int(limit) < _NO_LIMIT for limit in limits)

    def hits(self) -> int:
        """Raises OSError or ValueError."""
        raw = self._counts.read()
        return (limit_hits(raw) or 0) if self._unified else int(raw)

    def close(self) -> None:
        """Close its files."""
        for file in (self._counts, *self._limits):
            file.close()


class Refaults:
    """The refaults of one container, and the last reading of them: when (ns, UTC), how many, limit hits by then."""

    def __init__(self, folder: Path, unified: bool, hits: bytes, now: int, above: Sequence[Path] = ()) -> None:
        """Raises OSError or ValueError if ``memory.stat`` cannot be read or does not say.

        ``hits`` is the file that counts hits of the limit as it was read at ``now`` (ns, UTC), ``above`` are the
        folders of the cgroups above that can be seen.
        """
        self._above: list[Above] = []
        for each in above:
            with suppress(OSError):  # the controller is not enabled for it
                self._above.append(Above(each, unified))
        self._limited: list[Above] = []
        self._checked = 0
        self._pattern = _V2 if unified else _V1
        self._file = File(str(folder / "memory.stat"), _MOST_BYTES)
        self._kept = (now, self._read(), hits)

    def above(self, now: int) -> int:
        """How often the limits of cgroups above were hit by ``now`` (ns, UTC); those that went away count nothing."""
        if not self._above:
            return 0
        try:
            if not 0 <= now - self._checked < _CHECK_NS:
                self._limited = [one for one in self._above if one.is_limited()]
                self._checked = now
            return sum(one.hits() for one in self._limited)
        except (OSError, ValueError):
            self._limited = []
            return 0

    def before(self, hits: bytes, now: int) -> int:
        """How many there had been by then, for a request that begins ``now`` (ns, UTC).

        Raises OSError or ValueError if the file cannot be read any more.
        """
        at, pages, then = self._kept
        if hits != then and now - at >= _YOUNG_NS:
            pages = self._read()
            self._kept = (now, pages, hits)
        return pages

    def gained(self, before: int, hit: bool, hits: bytes, began: int, now: int) -> int:
        """Pages since ``before``, of a request that ends now; ``hit``: whether the limit was hit meanwhile.

        Raises OSError or ValueError if the file cannot be read any more.
        """
        if not hit and (now - began < _LONG_NS or now - self._kept[0] < _OLD_NS):
            return 0
        pages = self._read()
        self._kept = (now, pages, hits)
        return max(0, pages - before) if hit else 0

    def close(self) -> None:
        """Close its files."""
        self._file.close()
        for one in self._above:
            one.close()

    def _read(self) -> int:
        found = self._pattern.findall(self._file.read())
        if not found:
            raise ValueError("memory.stat: expected a line workingset_refault, found none")
        return sum(map(int, found))
