"""What could not be sent yet, on disk: bounded in size and age, and there again when the agent is.

A folder for its owner alone, one file for all that was put aside at one time, newest at hand. A file is written under
another name and renamed, so that it is whole or absent; each parcel carries a checksum, because disks lie. Who cannot
write (no folder, no room, a read-only disk, another agent that has the folder) keeps a bounded number of bytes in
memory instead, and says so once. What is dropped is always the oldest, and is counted with the times it was read at.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

#: What files of a spool are called: first and last time (ns, UTC), points, a number against equal names.
_NAME: Final = re.compile(r"(\d{1,19})-(\d{1,19})-(\d{1,12})-(\d{1,9})\.spool")
_HEAD: Final = b"layerline-spool 1\n"
_LOST: Final = "lost.json"
_LOCK: Final = "lock"
#: A line of JSON before each parcel; more is not one of ours.
_MOST_LINE: Final = 1024

#: Why points were dropped, in words.
FULL: Final = "the server was away, and there was no room to keep more"
OLD: Final = "the server was away, and they were older than what is kept"
DAMAGED: Final = "the file that kept them is damaged"
REFUSED: Final = "the server refused them"
FAILED: Final = "the agent could not send them"
ENDED: Final = "the agent ended before they could be sent, and nothing could be kept on disk"


class Parcel(NamedTuple):
    """One request, ready to go."""

    path: str
    body: bytes
    """Compressed."""
    points: int
    """What is lost if it is dropped: points or events."""
    at_ns: int = 0
    """When it was put together (ns, UTC): what it holds was read shortly before."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Points and events that are gone for one reason, and when the first and the last of them were read (ns, UTC)."""

    reason: str
    points: int
    from_ns: int
    to_ns: int

    def and_(self, other: Loss) -> Loss:
        """Both together."""
        first, last = min(self.from_ns, other.from_ns), max(self.to_ns, other.to_ns)
        return Loss(self.reason, self.points + other.points, first, last)


class Losses:
    """What was lost, and of that what nobody was told of yet. For several threads."""

    def __init__(self) -> None:
        self.total = 0
        """Points and events since the start."""
        self.changed = False
        """Since it was noted."""
        self._untold: dict[str, Loss] = {}
        self._lock = threading.Lock()

    def add(self, loss: Loss, before: bool = False) -> None:
        """Count it. ``before``: it was lost before the start."""
        with self._lock:
            self.total += 0 if before else loss.points
            known = self._untold.get(loss.reason)
            self._untold[loss.reason] = loss if known is None else known.and_(loss)
            self.changed = True

    def untold(self) -> list[Loss]:
        """What nobody was told of yet, by reason."""
        with self._lock:
            return list(self._untold.values())

    def tell(self) -> list[Loss]:
        """The same, and it counts as told from now on."""
        with self._lock:
            losses = list(self._untold.values())
            self._untold.clear()
            self.changed = self.changed or bool(losses)
            return losses


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the spool, as its name tells."""

    name: str
    first_ns: int
    last_ns: int
    points: int
    number: int
    bytes: int

    @property
    def loss(self) -> tuple[int, int, int]:
        return self.points, self.first_ns, self.last_ns


class Spool:
    """Keeps parcels, newest at hand. Used by one thread at a time."""

    def __init__(
        self,
        folder: Path | None,
        say: Callable[[str], None],
        most_bytes: int,
        longest_ns: int,
        memory_bytes: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """``folder`` None: in memory only. It is made when there is something to keep. Nothing here raises OSError."""
        self.losses = Losses()
        self._folder = folder
        self._say = say
        self._most_bytes = most_bytes
        self._longest_ns = longest_ns
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._said = False
        self._lock: int | None = None
        self._number = 0
        self._files: deque[_File] = deque()  # oldest first
        self._bytes = 0
        self._opened: tuple[_File, list[Parcel]] | None = None  # what is left of a file that is being sent
        self._memory: deque[Parcel] = deque()  # oldest first
        self._in_memory = 0
        if folder is not None:  # to look whether it is there may be forbidden, too
            self._trying(lambda: self._find() if folder.is_dir() else None, writes=False)

    @property
    def on_disk(self) -> int:
        """Points and events in files."""
        return sum(file.points for file in self._files)

    @property
    def in_memory(self) -> int:
        """Points and events that end with the agent."""
        return sum(parcel.points for parcel in self._memory)

    def __bool__(self) -> bool:
        """There is something to send."""
        return bool(self._memory or self._files)

    def keep(self, parcels: list[Parcel]) -> None:
        """Put these aside, oldest first, on disk if that can be."""
        # What waits in memory goes along as soon as the disk takes it again.
        together = sorted([*self._memory, *parcels], key=lambda parcel: parcel.at_ns)
        if not together:
            return
        if self._folder is not None and self._trying(lambda: self._write(together)):
            self._memory.clear()
            self._in_memory = 0
            self.note_losses()
            return
        self._memory = deque(together)
        self._in_memory = sum(len(parcel.body) for parcel in together)
        while self._in_memory > self._memory_bytes:
            oldest = self._memory.popleft()
            self._in_memory -= len(oldest.body)
            self.losses.add(Loss(FULL, oldest.points, oldest.at_ns, oldest.at_ns))
        self.trim()

    def newest(self) -> Parcel | None:
        """What is to be sent next; the same until it is ``done``."""
        self.trim()
        if self._opened is not None:
            return self._opened[1][-1]
        if self._memory and (not self._files or self._memory[-1].at_ns >= self._files[-1].last_ns):
            return self._memory[-1]
        while self._files:
            file = self._files[-1]
            parcels = self._read(file)
            if parcels:
                self._opened = (file, parcels)
                return parcels[-1]
            self._forget(self._files.pop())
        return self._memory[-1] if self._memory else None

    def done(self, parcel: Parcel) -> None:
        """That one, which ``newest`` gave, is sent or given up."""
        if self._opened is not None:
            file, parcels = self._opened
            if parcels and parcels[-1] is parcel:
                parcels.pop()
                if not parcels:
                    self._opened = None
                    if file in self._files:
                        self._files.remove(file)
                        self._forget(file)
                return
        if self._memory and self._memory[-1] is parcel:
            self._memory.pop()
            self._in_memory -= len(parcel.body)

    def close(self) -> None:
        """Write what is in memory, as far as that can be, and count the rest as lost; others may have the folder.

        The note of what was lost is small: it may find room where the rest does not.
        """
        self.keep([])
        for parcel in self._memory:
            self.losses.add(Loss(ENDED, parcel.points, parcel.at_ns, parcel.at_ns))
        if self._lock is not None:
            self.note_losses()
            os.close(self._lock)
            self._lock = None

    # ---- the folder

    def _trying(self, work: Callable[[], None], writes: bool = True) -> bool:
        """Do it; where the disk does not let us, say so once and continue without."""
        try:
            work()
        except (OSError, ValueError) as problem:
            if not self._said:
                self._said = True
                self._say(
                    f"what cannot be sent is kept in memory only, at most {self._memory_bytes >> 20} MiB: "
                    f"{self._folder}: {problem}"
                )
            return False
        if self._said and writes:
            self._said = False
            self._say(f"what cannot be sent is kept in {self._folder} again")
        return True

    def _own(self) -> Path:
        """The folder: it exists, is ours alone, and nobody else uses it. OSError says what is wrong."""
        folder = self._folder
        if folder is None:
            raise FileNotFoundError("there is no folder")
        if self._lock is None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.stat()
            if found.st_uid != os.geteuid():
                raise PermissionError("it belongs to another user")
            if found.st_mode & 0o077:
                folder.chmod(0o700)
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise BlockingIOError("another agent uses it (LAYERLINE_SPOOL names one for each)") from None
            self._lock = lock
        return folder

    def _find(self) -> None:
        """What an earlier agent left behind."""
        folder = self._own()
        found = []
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                first, last, points, number = (int(group) for group in match.groups())
                found.append(_File(entry.name, first, last, points, number, entry.stat(follow_symlinks=False).st_size))
            elif entry.name.endswith(".part"):
                with contextlib.suppress(OSError):
                    os.unlink(entry)
        self._files = deque(sorted(found, key=lambda file: (file.last_ns, file.number)))
        self._bytes = sum(file.bytes for file in found)
        self._number = max((file.number for file in found), default=0)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            for each in json.loads((folder / _LOST).read_text(encoding="utf-8")):
                loss = Loss(str(each["reason"]), int(each["points"]), int(each["from_ns"]), int(each["to_ns"]))
                self.losses.add(loss, before=True)
        self.trim()

    def _write(self, parcels: list[Parcel]) -> None:
        """One file of these parcels. OSError, and then nothing is left of it."""
        folder = self._own()
        self._number = (self._number + 1) % 10**9
        first, last, points = parcels[0].at_ns, parcels[-1].at_ns, sum(parcel.points for parcel in parcels)
        content = b"".join((_HEAD, *(written(parcel) for parcel in parcels)))
        name = f"{first}-{last}-{points}-{self._number}.spool"
        part = folder / f"{name}.part"
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fdatasync(file.fileno())
            part.rename(folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        self._files.append(_File(name, first, last, points, self._number, len(content)))
        self._bytes += len(content)
        self.trim()

    def trim(self) -> None:
        """Drop what is too old, then the oldest until the rest fits."""
        too_old_ns = self._clock() - self._longest_ns
        while self._files and (self._files[0].last_ns < too_old_ns or self._bytes > self._most_bytes):
            reason = OLD if self._files[0].last_ns < too_old_ns else FULL
            file = self._files.popleft()
            left = file.loss
            if self._opened is not None and self._opened[0] is file:
                left = (sum(parcel.points for parcel in self._opened[1]), *left[1:])
                self._opened = None
            self.losses.add(Loss(reason, *left))
            self._forget(file)
        while self._memory and self._memory[0].at_ns < too_old_ns:
            oldest = self._memory.popleft()
            self._in_memory -= len(oldest.body)
            self.losses.add(Loss(OLD, oldest.points, oldest.at_ns, oldest.at_ns))

    def note_losses(self) -> None:
        """Remember for the next start what nobody was told of."""
        if self._lock is None or self._folder is None or not self.losses.changed:
            return
        self.losses.changed = False
        untold = [
            {"reason": loss.reason, "points": loss.points, "from_ns": loss.from_ns, "to_ns": loss.to_ns}
            for loss in self.losses.untold()
        ]
        with contextlib.suppress(OSError):
            if untold:
                part = self._folder / f"{_LOST}.part"
                part.touch(mode=0o600)
                part.write_text(json.dumps(untold), encoding="utf-8")
                part.rename(self._folder / _LOST)
            else:
                (self._folder / _LOST).unlink(missing_ok=True)

    def _read(self, file: _File) -> list[Parcel]:
        """The parcels of a file, oldest first. What is damaged is left out, and counted."""
        try:
            content = (self._folder or Path()).joinpath(file.name).read_bytes()
        except OSError as problem:
            content = b""
            self._say(f"{file.name} cannot be read: {problem}")
        parcels = list(read(content))
        missing = file.points - sum(parcel.points for parcel in parcels)
        if missing > 0:
            self.losses.add(Loss(DAMAGED, missing, file.first_ns, file.last_ns))
        return parcels

    def _forget(self, file: _File) -> None:
        """It is not needed any more."""
        self._bytes -= file.bytes
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / file.name).unlink()


def written(parcel: Parcel) -> bytes:
    """A parcel as it stands in a file: a line about it, and its body."""
    about = {
        "path": parcel.path,
        "points": parcel.points,
        "at_ns": parcel.at_ns,
        "bytes": len(parcel.body),
        "crc": zlib.crc32(parcel.body),
    }
    return json.dumps(about).encode() + b"\n" + parcel.body


def read(content: bytes) -> Iterable[Parcel]:
    """The parcels of a file's content, up to the first that is damaged."""
    if not content.startswith(_HEAD):
        return
    at = len(_HEAD)
    while at < len(content):
        end = content.find(b"\n", at, at + _MOST_LINE)
        try:
            about = json.loads(content[at:end])
            path, size = about["path"], about["bytes"]
            body = content[end + 1 : end + 1 + size]
            if end < 0 or path not in ("/v1/metrics", "/v1/logs") or size < 0 or zlib.crc32(body) != about["crc"]:
                return
            yield Parcel(path, body, int(about["points"]), int(about["at_ns"]))
        except (ValueError, TypeError, KeyError):
            return
        at = end + 1 + size
