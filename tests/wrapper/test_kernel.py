"""A kernel file that is read again and again: kept open where there is room, and closed only if it is still ours."""

from __future__ import annotations

import os
from pathlib import Path
from resource import RLIM_INFINITY

import pytest

from layerline import kernel
from layerline.kernel import File


@pytest.fixture(params=["ctypes", "os"])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the C library and without it."""
    if request.param == "os":
        monkeypatch.setattr(kernel, "_libc", None)


@pytest.mark.usefixtures("_either")
def test_it_says_what_is_there_now(tmp_path: Path) -> None:
    """Each read starts from the beginning and sees what was written since, up to the size given."""
    path = tmp_path / "meter"
    path.write_text("1 2 3\n")
    file = File(str(path), 8)
    assert file.read() == b"1 2 3\n"
    path.write_text("4 5\n")
    assert file.read() == b"4 5\n"
    path.write_text("0123456789")
    assert file.read() == b"01234567"
    descriptor = file.fd
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.usefixtures("_either")
def test_what_cannot_be_opened_or_read_is_an_os_error(tmp_path: Path) -> None:
    """The reason is the kernel's own."""
    with pytest.raises(FileNotFoundError):
        File(str(tmp_path / "missing"))
    folder = File(str(tmp_path))
    with pytest.raises(IsADirectoryError):
        folder.read()
    folder.close()


@pytest.mark.usefixtures("_either")
def test_a_number_that_somebody_else_has_now_is_left_alone(tmp_path: Path) -> None:
    """An application that closes all descriptors and opens its own keeps them when ours goes."""
    path = tmp_path / "meter"
    path.touch()
    file = File(str(path))
    os.close(file.fd)
    theirs = os.open(tmp_path, os.O_RDONLY)
    assert theirs == file.fd
    file.close()
    os.fstat(theirs)
    os.close(theirs)


@pytest.mark.usefixtures("_either")
def test_a_file_that_is_not_kept_open_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room it is opened for each reading and leaves nothing open; once closed, it cannot be read."""
    monkeypatch.setattr(kernel, "room", lambda: False)
    path = tmp_path / "meter"
    path.write_text("1 2 3\n")
    file = File(str(path), 5)
    assert file.fd < 0
    assert file.read() == b"1 2 3"
    path.write_text("4 5\n")
    assert file.read() == b"4 5\n"
    assert not [each for each in Path("/proc/self/fd").iterdir() if str(path) == os.path.realpath(each)]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.read()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read()


@pytest.mark.parametrize(
    ("limit", "kept", "expected"),
    [(1024, 127, True), (1024, 128, False), (7, 0, False), (RLIM_INFINITY, 4_095, True), (10**6, 4_096, False)],
)
def test_an_eighth_of_the_descriptors_is_ours(
    limit: int, kept: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are kept open up to an eighth of what the process may have, and never more than a few thousand."""
    monkeypatch.setattr(kernel, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(kernel.Kept, "files", kept)
    assert kernel.room() is expected
