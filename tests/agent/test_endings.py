"""The end of a container: its files are copied when its last process has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from layerline_agent import endings as module
from layerline_agent.endings import Ended, Endings
from waiting import PATIENCE_S


@pytest.fixture
def told() -> SimpleQueue[Ended]:
    return SimpleQueue()


@pytest.fixture
def endings(told: SimpleQueue[Ended]) -> Iterator[Endings]:
    made = Endings(told.put)
    yield made
    made.close()


def process() -> subprocess.Popen[bytes]:
    """A process that lives until it is told to end."""
    return subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)


def end(*processes: subprocess.Popen[bytes]) -> None:
    for one in processes:
        one.communicate(b"\n", timeout=PATIENCE_S)


def group(folder: Path, *processes: subprocess.Popen[bytes]) -> str:
    """The list of processes of a cgroup."""
    path = folder / "cgroup.procs"
    path.write_text("".join(f"{one.pid}\n" for one in processes))
    return str(path)


def test_read_when_the_last_has_ended(tmp_path: Path, endings: Endings, told: SimpleQueue[Ended]) -> None:
    """While one of its processes lives nothing is read; when the last has ended the files are, as they are then."""
    first, second = process(), process()
    counter, missing = tmp_path / "usage", str(tmp_path / "missing")
    counter.write_text("1")
    endings.watch("c1", group(tmp_path, first, second), [str(counter), missing])
    end(first)
    with pytest.raises(Empty):
        told.get(timeout=0.2)
    counter.write_text("2")
    before_ns = time.time_ns()
    group(tmp_path)
    end(second)
    ended = told.get(timeout=PATIENCE_S)
    assert (ended.container_id, ended.contents) == ("c1", {str(counter): b"2", missing: None})
    assert before_ns <= ended.time_ns <= time.time_ns()


def test_its_group_was_gone(tmp_path: Path, endings: Endings, told: SimpleQueue[Ended]) -> None:
    """Where the cgroup was removed first, nothing is told: the end of its counters is unknown."""
    one = process()
    processes = group(tmp_path, one)
    endings.watch("c1", processes, [])
    Path(processes).unlink()
    end(one)
    with pytest.raises(Empty):
        told.get(timeout=0.3)


def test_forgotten(tmp_path: Path, endings: Endings, told: SimpleQueue[Ended]) -> None:
    """Who is forgotten is not told of, and another one still is."""
    one, other = process(), process()
    for name, container in (("c1", one), ("c2", other)):
        (tmp_path / name).mkdir()
        endings.watch(name, group(tmp_path / name, container), [])
    endings.forget("c1")
    group(tmp_path / "c2")
    end(one, other)
    assert told.get(timeout=PATIENCE_S).container_id == "c2"
    with pytest.raises(Empty):
        told.get(timeout=0.2)


def test_processes_that_cannot_be_named(tmp_path: Path, endings: Endings, told: SimpleQueue[Ended]) -> None:
    """In another pid namespace the kernel lists 0 for a process: it is not waited for."""
    path = tmp_path / "cgroup.procs"
    path.write_text("0\n0\n")
    endings.watch("c1", str(path), [])
    with pytest.raises(Empty):
        told.get(timeout=0.2)


def test_one_that_fails_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where telling of one end fails, that is said, and the next end is read."""
    ends: SimpleQueue[str] = SimpleQueue()

    def tell(ended: Ended) -> None:
        ends.put(ended.container_id)
        if ended.container_id == "bad":
            raise RuntimeError("no")

    endings = Endings(tell)
    for name in ("bad", "good"):
        one = process()
        folder = tmp_path / name
        folder.mkdir()
        endings.watch(name, group(folder, one), [])
        group(folder)
        end(one)
        assert ends.get(timeout=PATIENCE_S) == name
    endings.close()
    assert "RuntimeError: no" in capsys.readouterr().err


def test_no_more_descriptors_than_its_share(
    tmp_path: Path, endings: Endings, told: SimpleQueue[Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more containers than descriptors the ends of some are not waited for, and nothing else suffers."""
    monkeypatch.setattr(module, "most_endings", lambda: 2)
    one = process()
    processes = group(tmp_path, one)
    for number in range(5):
        endings.watch(f"c{number}", processes, [])
    assert sorted(endings._pidfds) == ["c0", "c1"]
    group(tmp_path)
    end(one)
    assert sorted(told.get(timeout=60).container_id for _ in range(2)) == ["c0", "c1"]
