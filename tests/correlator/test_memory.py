"""The database may use a share of the memory that this process may have, and no more."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from layerline_correlator.settings import Settings
from layerline_correlator.store.memory import available_bytes, default_bytes, wall
from layerline_correlator.store.store import Store

GIB = 2**30


def machine(folder: Path, cgroup: str, limits: dict[str, str]) -> tuple[Path, Path, Path]:
    """``/proc`` and the mounts of v1 and v2 of a machine of 16 GiB, with these files in the mounts."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text(f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 1 kB\n")
    (folder / "proc/self/cgroup").write_text(cgroup)
    for name, text in limits.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "proc", folder / "v1", folder / "v2"


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {"v2/memory.max": "max\n"}, 16),
        ("0::/a/b\n", {"v2/a/b/memory.max": "max\n", "v2/a/memory.max": f"{GIB}\n"}, 1),
        ("4:memory:/docker/x\n0::/\n", {"v1/docker/x/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2),
        # inside a container: the path is the machine's, the mount is its own
        ("4:memory:/docker/x\n", {"v1/memory.limit_in_bytes": f"{GIB}\n"}, 1),
        ("4:memory:/\n", {"v1/memory.limit_in_bytes": "9223372036854771712\n"}, 16),
        ("", {}, 16),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int) -> None:
    """What this process may have is the machine's memory or the least limit of a cgroup that it is in."""
    assert available_bytes(*machine(tmp_path, cgroup, limits)) == expected * GIB


def test_the_database_has_a_limit_and_a_folder_for_what_does_not_fit(tmp_path: Path) -> None:
    """By default a third of what there is; what is set holds; the folder is emptied at the start."""
    assert 256 * 2**20 <= default_bytes() <= 640 * 2**20
    left = tmp_path / "spill/of-a-process-that-was-killed"
    left.parent.mkdir()
    left.touch()
    store = Store(Settings.from_environment({"LAYERLINE_STORE": str(tmp_path), "LAYERLINE_MEMORY": "512MiB"}))
    try:
        with store.cursor() as cursor:
            found = dict(cursor.execute("SELECT name, value FROM duckdb_settings()").fetchall())
        assert found["memory_limit"] == "512.0 MiB"
        assert found["max_temp_directory_size"] == "4.0 GiB"
        assert found["temp_directory"] == str(tmp_path / "spill")
        assert not left.exists()
    finally:
        store.close()


def test_a_wall_stands_until_the_last_leaves() -> None:
    """Behind it nobody gets more than was allowed; afterwards the limit is what it was."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with wall(256 * 2**20):
        with wall(1), pytest.raises(MemoryError):
            bytearray(GIB)
        with pytest.raises(MemoryError):
            bytearray(GIB)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(GIB // 2)) == GIB // 2
