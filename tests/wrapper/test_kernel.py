"""A kernel file that is kept open: read in place, and closed only if it is still ours."""

from __future__ import annotations

import os
from pathlib import Path

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
