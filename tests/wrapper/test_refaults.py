"""Refaults and OOM kills of one container over one request: a cgroup tree of v1 and one of v2, both in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layerline.attributes import CONTAINER_OOM_KILLS, CONTAINER_REFAULTS
from layerline.cgroup import Cgroup, parse_mounts
from layerline.meters import Begun, Meters
from layerline.refaults import Refaults

MS = 1_000_000


@dataclass
class Container:
    """A container's memory cgroup as the kernel shows it, and its meters. The clock is ours (ns)."""

    root: Path
    unified: bool
    split: bool = True  # refaults of files and of memory apart, since Linux 5.9
    now: int = 10**18
    cgroup: Cgroup = field(init=False)
    meters: Meters = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.root / "cgroup" / "inside"
        self.folder.mkdir(parents=True)
        (self.root / "proc").mkdir()
        self.write(refaults=100, hits=7, kills=1)
        kind = "cgroup2" if self.unified else "cgroup"
        mounts = parse_mounts(f"30 23 0:26 / /cgroup ro - {kind} cgroup rw,memory")
        self.cgroup = Cgroup({"" if self.unified else "memory": "/inside"}, mounts, self.root)
        self.meters = Meters(self.cgroup, contained=True)

    def write(self, refaults: int, hits: int, kills: int = 1) -> None:
        below = "" if self.unified else "total_"
        plain = "" if self.unified else "workingset_refault_file 3\n"  # its own, without the groups below it
        lines = (
            f"{below}workingset_refault_anon 40\n{below}workingset_refault_file {refaults - 40}\n"
            if self.split
            else f"{below}workingset_refault {refaults}\n"
        )
        (self.folder / "memory.stat").write_text(f"{plain}cache 1\n{lines}{below}workingset_activate 9\n")
        if self.unified:
            (self.folder / "cgroup.events").write_text("populated 1\n")
            (self.folder / "memory.events").write_text(f"low 0\nhigh 5\nmax {hits}\noom 0\noom_kill {kills}\n")
        else:
            (self.folder / "memory.failcnt").write_text(f"{hits}\n")
            (self.folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")

    def begin(self, after_ms: int = 0) -> Begun:
        self.now += after_ms * MS
        return self.meters.begin(self.now)

    def end(self, begun: Begun, after_ms: int) -> dict[str, int]:
        self.now += after_ms * MS
        return dict(self.meters.gained(begun, self.now))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every reading of memory.stat."""
    reads: list[int] = []
    read = Refaults._read

    def counting(self: Refaults) -> int:
        pages = read(self)
        reads.append(pages)
        return pages

    monkeypatch.setattr(Refaults, "_read", counting)
    monkeypatch.setattr("layerline.meters.time_ns", lambda: 10**18)
    return reads


@pytest.fixture(params=[True, False], ids=["v2", "v1"])
def container(request: pytest.FixtureRequest, tmp_path: Path, counted: list[int]) -> Iterator[Container]:
    made = Container(tmp_path, request.param)
    yield made
    made.meters.forked()  # closes its files


def above(container: Container, hits: int, limit: str) -> None:
    """What the cgroup above says of itself; its events count those below it too, the local ones do not."""
    folder = container.folder.parent
    if container.unified:
        (folder / "cgroup.events").write_text("populated 1\n")
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.high").write_text("max\n")
        (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax {hits + 90}\noom 0\noom_kill 0\n")
        (folder / "memory.events.local").write_text(f"low 0\nhigh 0\nmax {hits}\noom 0\noom_kill 0\n")
    else:
        (folder / "memory.limit_in_bytes").write_text(f"{9223372036854771712 if limit == 'max' else limit}\n")
        (folder / "memory.failcnt").write_text(f"{hits}\n")


@pytest.mark.parametrize(("limit", "refaults"), [("67108864", 40), ("max", 0)])
def test_a_limit_above_throws_out_pages_too(container: Container, limit: str, refaults: int) -> None:
    """The container's own limit is not hit, but that of its pod: what came back counts; without one it does not."""
    above(container, 3, limit)
    container.meters = Meters(container.cgroup, contained=True)
    begun = container.begin()
    container.write(refaults=140, hits=7)
    above(container, 9, limit)
    assert container.end(begun, 20)[CONTAINER_REFAULTS] == refaults


def test_a_limit_above_that_is_not_hit_costs_no_reading(container: Container, counted: list[int]) -> None:
    """While its count stands still, the dear file is not read, as with the container's own limit."""
    above(container, 3, "67108864")
    container.meters = Meters(container.cgroup, contained=True)
    before = len(counted)
    assert container.end(container.begin(), 20)[CONTAINER_REFAULTS] == 0
    assert len(counted) == before


def test_no_hit_of_the_limit_is_no_refault(container: Container, counted: list[int]) -> None:
    """While the limit is not hit the answer is 0, whatever the machine threw out, and memory.stat is not read."""
    begun = container.begin()
    container.write(refaults=900, hits=7)
    assert container.end(begun, 20)[CONTAINER_REFAULTS] == 0
    assert counted == [100]


def test_a_hit_of_the_limit_counts_what_came_back(container: Container) -> None:
    """Pages of files and of memory together, those of the groups below included; the next request starts from there."""
    begun = container.begin()
    container.write(refaults=350, hits=9)
    assert container.end(begun, 20)[CONTAINER_REFAULTS] == 250
    begun = container.begin(5)
    container.write(refaults=360, hits=10)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 10


def test_what_came_back_between_requests_is_nobody_s(container: Container, counted: list[int]) -> None:
    """A job that ran into the limit while no request was open is not charged to the request after it."""
    container.write(refaults=90_000, hits=1_000)
    begun = container.begin(300)
    container.write(refaults=90_003, hits=1_001)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 3
    assert counted == [100, 90_000, 90_003]


def test_requests_at_once_see_the_same_container(container: Container) -> None:
    """One that ends first takes nothing from one that is still open: each has all that came back while it was open."""
    long = container.begin()
    short = container.begin(20)
    container.write(refaults=150, hits=8)
    assert container.end(short, 10)[CONTAINER_REFAULTS] == 50
    container.write(refaults=170, hits=9)
    assert container.end(long, 10)[CONTAINER_REFAULTS] == 70


def test_a_long_request_renews_an_old_reading(container: Container, counted: list[int]) -> None:
    """What the machine threw out over an hour is not charged to the first request that hits the limit."""
    begun = container.begin(3_600_000)
    container.write(refaults=5_000, hits=7)
    assert container.end(begun, 49)[CONTAINER_REFAULTS] == 0
    assert counted == [100]
    begun = container.begin()
    assert container.end(begun, 50)[CONTAINER_REFAULTS] == 0
    assert container.end(container.begin(), 50)[CONTAINER_REFAULTS] == 0  # young enough
    assert counted == [100, 5_000]
    begun = container.begin()
    container.write(refaults=5_004, hits=8)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 4


def test_kills_are_counted_beside_hits(container: Container) -> None:
    """The kills of exactly the request, from the file that counts hits too on v2, and from its own on v1."""
    begun = container.begin()
    assert container.end(begun, 5)[CONTAINER_OOM_KILLS] == 0
    begun = container.begin()
    container.write(refaults=100, hits=8, kills=3)
    gained = container.end(begun, 5)
    assert gained[CONTAINER_OOM_KILLS] == 2
    assert gained[CONTAINER_REFAULTS] == 0


def test_a_counter_that_was_reset_is_a_hit(container: Container) -> None:
    """Somebody may write 0 to failcnt: that it differs is enough to read, and nothing is negative."""
    begun = container.begin()
    container.write(refaults=90, hits=2)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 0
    begun = container.begin()
    container.write(refaults=95, hits=1)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 5


@pytest.mark.parametrize("unified", [True, False], ids=["v2", "v1"])
def test_a_kernel_before_5_9_names_them_together(tmp_path: Path, unified: bool) -> None:
    """There the line has no ending."""
    container = Container(tmp_path, unified, split=False)
    begun = container.begin()
    container.write(refaults=130, hits=8)
    assert container.end(begun, 5)[CONTAINER_REFAULTS] == 30
    container.meters.forked()


def test_without_the_counter_or_the_figure_there_is_no_answer(container: Container) -> None:
    """Neither 0 nor a guess: absent. A fork finds out anew; kills stay."""
    stat = container.folder / "memory.stat"
    stat.write_text("cache 1\n")
    container.meters._refaults = None
    container.meters._open.clear()
    container.meters._find()
    gained = container.end(container.begin(), 5)
    assert CONTAINER_REFAULTS not in gained
    assert gained[CONTAINER_OOM_KILLS] == 0
    container.write(refaults=1, hits=1)
    if container.unified:
        (container.folder / "memory.events").write_text("oom_kill 0\n")
    else:
        (container.folder / "memory.failcnt").unlink()
    container.meters._open.clear()
    container.meters._find()
    gained = container.end(container.begin(), 5)
    assert CONTAINER_REFAULTS not in gained
    assert gained[CONTAINER_OOM_KILLS] == 0
