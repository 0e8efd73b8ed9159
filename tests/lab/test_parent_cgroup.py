"""A cgroup above a container's own: made, limited, and gone whatever happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lab.injectors import parent_cgroup
from benchmarks.lab.injectors.parent_cgroup import PREFIX, Parent
from layerline_api.demo.place import DemoError


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_limit_is_set_and_lifted(tmp_path: Path, version: str) -> None:
    """The quota is a share of the period that was asked for; afterwards there is none and the period is 100 ms."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if version == "v1" else ("cpu.max",)
    for name in names:
        (tmp_path / name).write_text("")

    def limits() -> list[str]:
        return [(tmp_path / name).read_text() for name in names]

    with Parent("ours", tmp_path).limited(0.15, 20_000):
        assert limits() == (["3000", "20000"] if version == "v1" else ["3000 20000"])
    assert limits() == (["-1", "100000"] if version == "v1" else ["max 100000"])


def test_it_is_removed_in_every_hierarchy(tmp_path: Path) -> None:
    """What the engine made of the same name for other controllers goes too, even if the case fails; others' stay."""
    for hierarchy in ("cpu", "memory", "unified"):
        (tmp_path / hierarchy).mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "memory/docker").mkdir()

    def use() -> None:
        with parent_cgroup.parent_cgroup(tmp_path) as parent:
            assert parent.folder == tmp_path / "cpu" / parent.name
            (tmp_path / "memory" / parent.name).mkdir()
            raise DemoError("the container did not start")

    with pytest.raises(DemoError, match="did not start"):
        use()
    assert not list(tmp_path.glob(f"*/{PREFIX}*"))
    assert (tmp_path / "memory/docker").exists()


def test_without_a_cpu_controller_it_says_so(tmp_path: Path) -> None:
    """Where no cgroup can have a CPU limit, that is the error."""
    (tmp_path / "cgroup.subtree_control").write_text("memory pids\n")
    with (
        pytest.raises(DemoError, match=r"no cgroup below .* can have a CPU limit"),
        parent_cgroup.parent_cgroup(tmp_path),
    ):
        pass


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    """The cgroup of a process that is gone goes; that of one that lives, and one that is not ours, stay."""
    processes = tmp_path / "proc"
    for name in (f"{PREFIX}11-aa", f"{PREFIX}12-bb", "docker"):
        (tmp_path / "cpu" / name).mkdir(parents=True)
    (processes / "11").mkdir(parents=True)
    parent_cgroup.remove_orphans(tmp_path, processes)
    assert {folder.name for folder in (tmp_path / "cpu").iterdir()} == {f"{PREFIX}11-aa", "docker"}
