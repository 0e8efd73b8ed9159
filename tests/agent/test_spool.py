"""What could not be sent is kept on disk: bounded, whole, for its owner alone, and never in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerline_agent.spool import _HEAD, DAMAGED, ENDED, FULL, OLD, Loss, Parcel, Spool, read, written

from .conftest import Clock

S = 10**9


class Opened:
    """Makes spools in one folder, with a clock of ours, and keeps what they say."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.said: list[str] = []

    def __call__(self, most_bytes: int = 10**6, longest_s: int = 3600, memory_bytes: int = 10**6) -> Spool:
        return Spool(self.folder, self.said.append, most_bytes, longest_s * S, memory_bytes, self.clock)


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opened:
    clock.now_ns = 1_000 * S
    return Opened(tmp_path / "state" / "spool", clock)


def parcel(at_s: int, body: bytes = b"x", points: int = 1) -> Parcel:
    return Parcel("/v1/metrics", body, points, at_s * S)


def everything(spool: Spool) -> list[int]:
    """The times of all that it gives, in seconds, in that order."""
    found = []
    while (one := spool.newest()) is not None:
        found.append(one.at_ns // S)
        spool.done(one)
    return found


def test_newest_first_and_gone_when_sent(opened: Opened) -> None:
    """It gives the newest first, across files, and deletes a file when all of it is sent."""
    spool = opened()
    assert not spool
    spool.keep([parcel(1), parcel(2)])
    spool.keep([parcel(3), parcel(4)])
    assert spool.on_disk == 4
    assert everything(spool) == [4, 3, 2, 1]
    assert not spool
    assert list(opened.folder.glob("*.spool")) == []
    assert opened.said == []


def test_a_folder_is_made_only_when_it_is_needed_and_is_its_owner_s_alone(opened: Opened) -> None:
    """Nothing is made before there is something to keep; then others may not look in, also where they could before."""
    spool = opened()
    spool.close()
    assert not opened.folder.exists()
    opened.folder.mkdir(parents=True, mode=0o755)
    spool = opened()
    spool.keep([parcel(1)])
    assert stat.S_IMODE(opened.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in opened.folder.iterdir()} == {0o600}


def test_it_is_there_again_after_a_kill(opened: Opened) -> None:
    """A spool that was never closed is found whole by the next; half a file that was being written is removed."""
    first = opened()
    first.keep([parcel(1), parcel(2)])
    os.close(first._lock or 0)  # as the kernel does when a process is killed
    (opened.folder / "3000-3000-1-9.spool.part").write_bytes(b"half")
    second = opened()
    assert second.on_disk == 2
    assert everything(second) == [2, 1]
    assert not list(opened.folder.glob("*.part"))


def test_two_agents_do_not_share_a_folder(opened: Opened) -> None:
    """The second keeps what it has in memory, says once why, and sends nothing of the first's."""
    first, second = opened(), opened()
    first.keep([parcel(1)])
    second.keep([parcel(2)])
    second.keep([parcel(3)])
    assert everything(second) == [3, 2]
    assert everything(first) == [1]
    (said,) = opened.said
    assert "another agent uses it" in said
    assert "LAYERLINE_SPOOL" in said


def test_the_oldest_goes_when_it_is_full(opened: Opened) -> None:
    """Beyond its size the oldest files are deleted, and counted with their times."""
    spool = opened(most_bytes=3_500)
    for number in range(10):
        spool.keep([parcel(number, b"x" * 1_000, points=7)])
    assert sum(file.stat().st_size for file in opened.folder.glob("*.spool")) <= 3_500
    assert spool.losses.total == 7 * 7
    assert spool.losses.untold() == [Loss(FULL, 49, 0, 6 * S)]
    assert everything(spool) == [9, 8, 7]


def test_what_is_too_old_goes(opened: Opened) -> None:
    """What has waited for longer than allowed is dropped, in files and in memory, and counted."""
    spool = opened(longest_s=60)
    spool.keep([parcel(1_000, points=5)])
    opened.clock.now_ns = 1_050 * S
    spool.keep([parcel(1_050, points=3)])
    opened.clock.now_ns = 1_070 * S
    assert everything(spool) == [1_050]
    assert spool.losses.untold() == [Loss(OLD, 5, 1_000 * S, 1_000 * S)]


def test_losses_that_nobody_was_told_of_survive_a_restart(opened: Opened) -> None:
    """They are told by the next agent, and are not part of what that one lost itself."""
    first = opened(most_bytes=200)
    first.keep([parcel(5, b"x" * 1_000, points=9)])
    first.close()
    second = opened()
    assert second.losses.total == 0
    assert second.losses.tell() == [Loss(FULL, 9, 5 * S, 5 * S)]
    second.note_losses()
    second.close()
    assert opened().losses.tell() == []


def broken(tmp_path: Path, clock: Clock, how: str, monkeypatch: pytest.MonkeyPatch) -> Opened:
    if how == "a file in its place":
        (tmp_path / "spool").write_text("")
    if how == "a full disk":

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fdatasync", full)
    if how == "a home that is somebody else's":

        def denied(*_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "is_dir", denied)
        monkeypatch.setattr(Path, "mkdir", denied)
    if how == "a read-only disk":

        def read_only(*_: object, **__: object) -> int:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(Path, "mkdir", read_only)
    return Opened(tmp_path / "spool", clock)


@pytest.mark.parametrize(
    "how", ["a file in its place", "a full disk", "a read-only disk", "a home that is somebody else's"]
)
def test_without_a_disk_it_is_memory_and_that_is_said_once(
    tmp_path: Path, clock: Clock, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be written, a bounded number of bytes is kept in memory, and one line says why."""
    opened = broken(tmp_path, clock, how, monkeypatch)
    spool = opened(memory_bytes=2_500)
    for number in range(5):
        spool.keep([parcel(number, b"x" * 1_000, points=2)])
    assert spool.in_memory == 4
    assert spool.on_disk == 0
    assert spool.losses.untold() == [Loss(FULL, 6, 0, 2 * S)]
    assert len(opened.said) == 1
    assert "in memory only" in opened.said[0]
    monkeypatch.undo()
    if how != "a file in its place":  # the disk takes it again: all of it goes there
        spool.keep([parcel(9)])
        assert (spool.in_memory, spool.on_disk) == (0, 5)
        assert len(opened.said) == 2
    assert everything(spool)[-2:] == [4, 3]


def test_what_ends_with_the_agent_is_told_by_the_next(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could neither be sent nor written when the agent ends counts as lost, and the next agent tells of it."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    spool = opened()
    monkeypatch.setattr(os, "fdatasync", full)
    spool.keep([parcel(3, points=2), parcel(5, points=7)])
    spool.close()
    assert spool.losses.total == 9
    assert opened().losses.tell() == [Loss(ENDED, 9, 3 * S, 5 * S)]


def test_damaged_files_are_skipped_and_counted(opened: Opened) -> None:
    """Truncated, overwritten, empty or foreign files cost their own points and nothing more."""
    first = opened()
    for number in range(6):
        first.keep([parcel(number, b"body" * 50, points=10), parcel(number, b"other" * 50, points=1)])
    first.close()
    files = sorted(opened.folder.glob("*.spool"))
    files[0].write_bytes(b"")
    files[1].write_bytes(b"\0" * 500)
    files[2].write_bytes(files[2].read_bytes()[:-1])  # its second parcel
    files[3].unlink()
    (opened.folder / "nonsense.spool").write_bytes(b"?")
    second = opened()
    files[4].unlink()  # after it was found
    assert everything(second) == [5, 5, 2]
    assert second.losses.untold() == [Loss(DAMAGED, 11 + 11 + 1 + 11, 0, 4 * S)]


@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 99)), max_size=4), st.data())
def test_whatever_happens_to_a_file_what_is_read_was_written(
    bodies: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """After any cut or change of bytes, each parcel that is read is one of those that were written."""
    parcels = [Parcel("/v1/logs", body, points, 7) for body, points in bodies]
    content = bytearray(b"".join((_HEAD, *map(written, parcels))))
    assert list(read(bytes(content))) == parcels
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    known = {body for body, _ in bodies}
    assert all(found.body in known for found in read(bytes(content)))


def test_many_files_are_trimmed_without_reading_them(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found at the start and does not fit is dropped by what its names tell."""
    first = opened()
    for number in range(300):
        first.keep([parcel(number)])
    first.close()
    monkeypatch.setattr(Path, "read_bytes", None)
    second = opened(most_bytes=2_000)
    assert 0 < second.on_disk < 30
    assert second.losses.total == 300 - second.on_disk
