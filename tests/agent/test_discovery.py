"""What runs on this machine, told by Docker and by walking cgroups, through everything that Docker does."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Event as Flag
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import DockerException, NotFound

from layerline_agent import discovery as module
from layerline_agent.cgroups import Tree
from layerline_agent.discovery import Discovery, Event, Gone, Seen, Sighting
from layerline_agent.machine import Machine
from layerline_agent.noticed import Noticed
from waiting import PATIENCE_S, eventually

from .conftest import HYBRID, HYBRID_ID

INSPECTED = json.loads((HYBRID / "first/docker_inspect.json").read_text())[0]
OTHER_ID = "b" * 64


class Engine:
    """A Docker Engine as the client sees it: what runs, and a stream of events that can break."""

    def __init__(self) -> None:
        self.running: dict[str, dict[str, Any]] = {}
        self.up = True
        self.messages: Queue[dict[str, Any] | None] = Queue()
        self.missed: list[dict[str, Any]] = []  # what it remembers when it is asked for events up to now
        self.stopped: dict[str, dict[str, Any]] = {}
        self.refused = 0  # how often it was asked while it was away
        self.answers = Flag()
        self.answers.set()
        self.api = self

    def run(self, container_id: str, name: str, pid: int = 31370) -> None:
        state = {**INSPECTED["State"], "Pid": pid}
        self.running[container_id] = {**INSPECTED, "Id": container_id, "Name": f"/{name}", "State": state}

    def stop(self, container_id: str, exit_code: int, finished: str) -> None:
        answer = self.running.pop(container_id)
        state = {**answer["State"], "Pid": 0, "Running": False, "ExitCode": exit_code, "FinishedAt": finished}
        self.stopped[container_id] = {**answer, "State": state}

    def tell(self, action: str, container_id: str, **attributes: str) -> None:
        actor = {"ID": container_id, "Attributes": attributes}
        self.messages.put({"Action": action, "Actor": actor, "timeNano": time.time_ns()})

    # ---- what the client calls

    def version(self) -> dict[str, str]:
        return {"Version": "20.10"}

    def containers(self, quiet: bool = False, **stopped: object) -> list[dict[str, Any]]:
        listed = self.stopped if stopped else self.running
        return [{"Id": container_id, "Created": int(time.time())} for container_id in listed]

    def inspect_container(self, container_id: str) -> dict[str, Any]:
        self.answers.wait(timeout=PATIENCE_S)
        answer = self.running.get(container_id) or self.stopped.get(container_id)
        if answer is None:
            raise NotFound("no such container")
        return answer

    def events(self, until: str = "", **_: object) -> Any:
        messages = self.messages
        if until:
            return iter(self.missed)

        class Stream:
            def __iter__(self) -> Iterator[dict[str, Any]]:
                return iter(messages.get, None)

            def close(self) -> None:
                messages.put(None)

        return Stream()

    def close(self) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()

    def connect(timeout: int) -> Engine:
        if not made.up:
            made.refused += 1
            raise DockerException("connection refused")
        return made

    monkeypatch.setattr(module, "docker", SimpleNamespace(from_env=connect))
    monkeypatch.setattr(module, "RETRY_S", (0.01, 0.02))
    return made


Start = Callable[..., Discovery]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a discovery below a root and stops it in the end."""
    started: list[Discovery] = []

    def begin(root: Path = HYBRID / "first", walk_every_s: float = 60.0) -> Discovery:
        machine = Machine(str(root))
        started.append(Discovery(machine, Tree.of(machine), walk_every_s))
        started[-1].start()
        return started[-1]

    yield begin
    for one in started:
        one.stop()


def take(found: Discovery, count: int) -> list[Sighting]:
    """The next sightings; AssertionError where there are fewer within a minute."""
    taken: list[Sighting] = []
    while len(taken) < count:
        try:
            sighting = found.sightings.get(timeout=PATIENCE_S)
        except Empty:
            raise AssertionError(f"{count} sightings were to come, {taken} came") from None
        assert sighting is not None
        taken.append(sighting)
    return taken


def test_listing(engine: Engine, start: Start) -> None:
    """What runs when the agent starts is seen at once, with its cgroup directories and its tags."""
    engine.run(HYBRID_ID, "web")
    found = start()
    (seen,) = take(found, 1)
    assert isinstance(seen, Seen)
    assert seen.container.name == "web"
    assert seen.container.directories["unified"].endswith(f"/unified/docker/{HYBRID_ID}")
    assert seen.container.inode == Path(seen.container.directories["cpu"]).stat().st_ino
    assert found.docker_version == "20.10"


def test_a_life(engine: Engine, start: Start) -> None:
    """Health, OOM, kill and die become events with their tags; the container is seen, and gone when it died."""
    found = start()
    engine.run(HYBRID_ID, "web")
    engine.tell("start", HYBRID_ID, name="web")
    assert [one.described for one in take(found, 3) if isinstance(one, Seen)] == [False, True]
    engine.tell("health_status: unhealthy", HYBRID_ID, name="web")
    engine.tell("oom", HYBRID_ID, name="web")
    engine.tell("kill", HYBRID_ID, name="web", signal="9")
    engine.tell("die", HYBRID_ID, name="web", exitCode="137")
    sightings = take(found, 5)
    events = [one for one in sightings if isinstance(one, Event)]
    assert sightings[-1] == Gone(HYBRID_ID, events[-1].time_ns)
    told = [(event.name, dict(event.attributes)) for event in events if isinstance(event, Event)]
    assert told == [
        ("container.health_status", {"layerline.container.health": "unhealthy"}),
        ("container.oom", {}),
        ("container.kill", {"layerline.signal": 9}),
        ("container.die", {"process.exit.code": 137}),
    ]
    assert {event.container.name for event in events} == {"web"}
    assert events[-1].body == "container web: die (code 137)"


def test_renamed_and_updated(engine: Engine, start: Start) -> None:
    """A new name is seen before its event is told, which then carries it and the name before."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)
    engine.run(HYBRID_ID, "shop")
    engine.tell("rename", HYBRID_ID, name="shop", oldName="/web")
    seen, event = take(found, 2)
    assert isinstance(seen, Seen)
    assert isinstance(event, Event)
    assert seen.container.name == event.container.name == "shop"
    assert event.attributes == {"layerline.container.previous_name": "web"}


def test_events_carry_the_engines_time(engine: Engine, start: Start) -> None:
    """Every event has the nanosecond at which the Engine says it happened, not that of its arrival, and who it was."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)
    began_ns = time.time_ns() + 10**9
    actions = ["pause", "unpause", "oom", "kill", "die", "start", "restart"]
    for number, action in enumerate(actions):
        told = {"name": "web"} | ({"exitCode": "3"} if action == "die" else {})
        engine.messages.put(
            {"Action": action, "Actor": {"ID": HYBRID_ID, "Attributes": told}, "timeNano": began_ns + number}
        )
    events = [one for one in take(found, len(actions) + 2) if isinstance(one, Event)]
    assert [(event.name, event.time_ns) for event in events] == [
        (f"container.{action}", began_ns + number) for number, action in enumerate(actions)
    ]
    assert {(event.container.id, event.container.name) for event in events} == {(HYBRID_ID, "web")}
    assert [dict(event.attributes) for event in events if event.name == "container.die"] == [{"process.exit.code": 3}]


def test_other_cpus_are_described_anew(engine: Engine, start: Start, copied: Callable[[Path], Path]) -> None:
    """When Docker gives a container other CPUs it is seen again, with those."""
    root = copied(HYBRID / "first")
    engine.run(HYBRID_ID, "web")
    found = start(root)
    (before,) = take(found, 1)
    (root / f"sys/fs/cgroup/cpuset/docker/{HYBRID_ID}/cpuset.effective_cpus").write_text("1\n")
    engine.tell("update", HYBRID_ID, name="web")
    after, _ = take(found, 2)
    assert isinstance(before, Seen)
    assert isinstance(after, Seen)
    assert before.container.attributes["layerline.container.cpuset"] == "0-1"
    assert after.container.attributes["layerline.container.cpuset"] == "1"


@pytest.mark.parametrize("docker", [True, False])
def test_its_own_network_is_found(engine: Engine, start: Start, copied: Callable[[Path], Path], docker: bool) -> None:
    """A container has the network files of a process of its own, whether Docker or its cgroup tells which."""
    root = copied(HYBRID / "first")
    for pid, inode in (("1", "1"), ("31370", "2")):
        (root / f"proc/{pid}/ns").mkdir()
        (root / f"proc/{pid}/ns/net").symlink_to(f"net:[{inode}]")
    for directory in (root / "sys/fs/cgroup").glob(f"*/docker/{HYBRID_ID}"):
        (directory / "cgroup.procs").write_text("31370\n31810\n")
    engine.up = docker
    engine.run(HYBRID_ID, "web")
    (seen,) = take(start(root), 1)
    assert isinstance(seen, Seen)
    assert seen.container.directories["network"] == f"{root}/proc/31370/net"


def test_a_life_too_short_to_ask(engine: Engine, start: Start) -> None:
    """A container that was removed before it could be asked about has its events, with the tags these carry."""
    found = start()
    engine.tell("start", OTHER_ID, name="job", image="job:1", team="shop")
    engine.tell("die", OTHER_ID, name="job", image="job:1", team="shop", exitCode="0")
    started, died, gone = take(found, 3)
    assert isinstance(started, Event)
    assert isinstance(died, Event)
    assert started.container.attributes["container.label.team"] == "shop"
    assert died.container.image == "job:1"
    assert gone == Gone(OTHER_ID, died.time_ns)


def test_docker_restarts(engine: Engine, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """When Docker went away and comes back, what stopped meanwhile is gone, and events are followed again."""
    engine.run(HYBRID_ID, "web")
    engine.run(OTHER_ID, "stays")
    found = start()
    take(found, 2)
    away(engine, lambda: engine.running.pop(HYBRID_ID))
    seen, event, gone, noticed = take(found, 4)
    assert isinstance(seen, Seen)
    assert (seen.container.id, gone) == (OTHER_ID, Gone(HYBRID_ID))
    assert isinstance(event, Event)
    assert isinstance(noticed, Noticed)
    assert (event.name, noticed.name) == ("container.gone", "layerline.agent.engine_away")
    engine.tell("pause", OTHER_ID, name="stays")
    (event,) = take(found, 1)
    assert isinstance(event, Event)
    assert event.name == "container.pause"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2, said
    assert "Docker went away" in said[0]
    assert "Docker 20.10 answers" in said[1]


def test_events_are_told_once(engine: Engine, start: Start) -> None:
    """Events that Docker repeats after the stream broke are not told twice."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)
    engine.tell("pause", HYBRID_ID, name="web")
    take(found, 1)
    actor = {"ID": HYBRID_ID, "Attributes": {"name": "web"}}
    engine.messages.put({"Action": "pause", "Actor": actor, "timeNano": time.time_ns() - 10**9})
    engine.tell("unpause", HYBRID_ID, name="web")
    (event,) = take(found, 1)
    assert isinstance(event, Event)
    assert event.name == "container.unpause"


def test_without_docker(engine: Engine, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Docker containers are found by walking cgroups, and one clear line says so."""
    engine.up = False
    found = start()
    (seen,) = take(found, 1)
    assert isinstance(seen, Seen)
    assert (seen.container.id, seen.container.runtime, seen.container.name) == (HYBRID_ID, "docker", "")
    assert set(seen.container.directories) == {"blkio", "cpu", "cpuacct", "cpuset", "memory", "pids", "unified"}
    assert seen.container.cpuset == "0-1"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no Docker Engine answers" in said


def test_walking_sees_the_end(engine: Engine, start: Start, copied: Callable[[Path], Path]) -> None:
    """Without Docker a container whose cgroup is gone is gone."""
    engine.up = False
    root = copied(HYBRID / "first")
    found = start(root, walk_every_s=0.05)
    take(found, 1)
    (root / f"sys/fs/cgroup/memory/docker/{HYBRID_ID}").rename(root / "away")
    assert take(found, 1) == [Gone(HYBRID_ID)]


def test_a_walk_that_fails_is_not_the_last(
    engine: Engine,
    start: Start,
    copied: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever goes wrong in one walk is said, and the next one sees what there is."""
    engine.up = False
    root = copied(HYBRID / "first")
    found = start(root, walk_every_s=0.05)
    take(found, 1)
    walk, failures = Tree.walk, [ValueError("odd"), ValueError("odd")]

    def failing(tree: Tree) -> object:
        if failures:
            raise failures.pop()
        return walk(tree)

    monkeypatch.setattr(Tree, "walk", failing)
    (root / f"sys/fs/cgroup/memory/docker/{HYBRID_ID}").rename(root / "away")
    assert take(found, 1) == [Gone(HYBRID_ID)]
    assert "walking the cgroups failed" in capsys.readouterr().err


def test_what_docker_does_not_manage_is_walked(engine: Engine, start: Start, copied: Callable[[Path], Path]) -> None:
    """A container of another engine beside Docker is found too, after Docker had time to claim it."""
    engine.run(HYBRID_ID, "web")
    root = copied(HYBRID / "first")
    (root / f"sys/fs/cgroup/memory/libpod_parent/libpod-{OTHER_ID}").mkdir(parents=True)
    found = start(root, walk_every_s=0.05)
    seen, walked = take(found, 2)
    assert isinstance(seen, Seen)
    assert isinstance(walked, Seen)
    assert (seen.container.id, walked.container.id) == (HYBRID_ID, OTHER_ID)
    assert walked.container.runtime == "podman"
    with pytest.raises(Empty):
        found.sightings.get(timeout=0.3)


def test_another_machines_engine(engine: Engine, start: Start) -> None:
    """A container whose process is not on this machine has no directories, so that nothing is read for it."""
    engine.run(OTHER_ID, "far", pid=4711)
    (seen,) = take(start(), 1)
    assert isinstance(seen, Seen)
    assert seen.container.directories == {}


def test_seen_before_docker_answers(engine: Engine, start: Start) -> None:
    """A container that starts is seen by its cgroup and its event; that Docker answers late delays only its tags."""
    found = start()
    engine.answers.clear()
    engine.run(HYBRID_ID, "web")
    engine.tell("start", HYBRID_ID, name="web", image="shop/web:1", team="shop")
    seen, started = take(found, 2)
    assert isinstance(seen, Seen)
    assert isinstance(started, Event)
    assert not seen.described
    assert set(seen.container.directories) == {"blkio", "cpu", "cpuacct", "cpuset", "memory", "pids", "unified"}
    assert seen.container.attributes["container.label.team"] == "shop"
    engine.answers.set()
    (described,) = take(found, 1)
    assert isinstance(described, Seen)
    assert described.described
    assert described.container.networks
    same = [(one.container.directories, one.container.started_ns, one.container.inode) for one in (seen, described)]
    assert same[0] == same[1], "it is the same run"


def test_events_out_of_order(engine: Engine, start: Start) -> None:
    """Of two events at nearly the same time the one that comes second may be the earlier: both are told."""
    found = start()
    now_ns = time.time_ns() + 10**9
    for container_id, at_ns in ((HYBRID_ID, now_ns), (OTHER_ID, now_ns - 1000)):
        actor = {"ID": container_id, "Attributes": {"name": "job", "exitCode": "0"}}
        engine.messages.put({"Action": "die", "Actor": actor, "timeNano": at_ns})
    events = [one for one in take(found, 4) if isinstance(one, Event)]
    assert [event.container.id for event in events] == [HYBRID_ID, OTHER_ID]


def away(engine: Engine, meanwhile: Callable[[], object]) -> None:
    """Docker goes away, is missed, and comes back when this has happened."""
    engine.up, engine.refused = False, 0
    engine.messages.put(None)
    eventually(lambda: engine.refused, "that it is missed")
    meanwhile()
    engine.up = True


def test_died_while_docker_was_away(engine: Engine, start: Start) -> None:
    """Who died unseen gets its die event when Docker is back, with the time and exit code that Docker kept."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)
    away(engine, lambda: engine.stop(HYBRID_ID, 137, "2026-11-25T03:56:41.500000001Z"))
    died, gone = take(found, 2)
    assert isinstance(died, Event)
    assert (died.name, died.time_ns) == ("container.die", 1_795_579_001_500_000_001)
    assert (died.attributes, died.container.name) == ({"process.exit.code": 137}, "web")
    assert gone == Gone(HYBRID_ID, died.time_ns)


def until(found: Discovery, name: str) -> Event | Noticed:
    """The next event of this name; what comes before it is passed over."""
    while True:
        (one,) = take(found, 1)
        if isinstance(one, Event | Noticed) and one.name == name:
            return one


def test_ended_and_removed_while_docker_was_away(engine: Engine, start: Start, copied: Callable[[Path], Path]) -> None:
    """A container that Docker does not know any more when it is back has ended, nobody knows when; so has one that was
    seen by its cgroup only while Docker was away. That Docker was away is said too."""
    root = copied(HYBRID / "first")
    groups = root / "sys/fs/cgroup/memory/docker"
    engine.run(HYBRID_ID, "web")
    found = start(root, walk_every_s=0.01)
    take(found, 1)
    began_ns = time.time_ns()
    other: list[Event | Noticed] = []

    def end() -> None:
        (groups / OTHER_ID).mkdir()
        (seen,) = take(found, 1)
        assert isinstance(seen, Seen)
        assert seen.container.id == OTHER_ID
        (groups / OTHER_ID).rmdir()
        other.append(until(found, "container.gone"))
        del engine.running[HYBRID_ID]
        (groups / HYBRID_ID).rename(root / "elsewhere")
        assert Gone(HYBRID_ID) in take(found, 2)  # the first is that of the other

    away(engine, end)
    web, noticed = until(found, "container.gone"), until(found, "layerline.agent.engine_away")
    names = [event.container.name or event.container.id for event in (*other, web) if isinstance(event, Event)]
    assert names == [OTHER_ID, "web"]
    for event in (*other, web, noticed):
        from_ns, to_ns = (int(event.attributes[f"layerline.agent.{which}_ns"]) for which in ("from", "to"))
        assert began_ns <= from_ns <= to_ns == event.time_ns <= time.time_ns()


def test_events_that_docker_remembers(engine: Engine, start: Start) -> None:
    """What happened while the stream was broken is told from what Docker remembers, once, and not made up again."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)

    def die() -> None:
        engine.stop(HYBRID_ID, 0, "2026-11-25T03:56:41.5Z")
        actor = {"ID": HYBRID_ID, "Attributes": {"name": "web", "exitCode": "0"}}
        engine.missed.append({"Action": "die", "Actor": actor, "timeNano": time.time_ns()})

    away(engine, die)
    died, gone, noticed = take(found, 3)
    assert isinstance(died, Event)
    assert died.time_ns == engine.missed[0]["timeNano"]
    assert gone == Gone(HYBRID_ID, died.time_ns)
    assert isinstance(noticed, Noticed)
    engine.messages.put(engine.missed[0])
    with pytest.raises(Empty):
        found.sightings.get(timeout=0.3)


def test_lived_while_docker_was_away(engine: Engine, start: Start) -> None:
    """Who was started and died while Docker could not be asked gets both events."""
    engine.run(HYBRID_ID, "web")
    found = start()
    take(found, 1)
    engine.tell("pause", HYBRID_ID, name="web")
    take(found, 1)

    def live() -> None:
        engine.run(OTHER_ID, "job")
        engine.stop(OTHER_ID, 3, "2026-11-25T03:56:41.5Z")

    away(engine, live)
    again, started, died, gone = take(found, 4)
    assert isinstance(again, Seen)
    assert isinstance(started, Event)
    assert isinstance(died, Event)
    assert [one.name for one in (started, died)] == ["container.start", "container.die"]
    assert (died.container.name, died.attributes) == ("job", {"process.exit.code": 3})
    assert gone == Gone(OTHER_ID, died.time_ns)


def test_restarted_while_docker_was_away(engine: Engine, start: Start, copied: Callable[[Path], Path]) -> None:
    """Who died and was started again unseen gets both events, and is seen anew: its cgroup is another one."""
    root = copied(HYBRID / "first")
    engine.run(HYBRID_ID, "web")
    found = start(root)
    take(found, 1)

    def restart() -> None:
        directory = root / f"sys/fs/cgroup/cpu/docker/{HYBRID_ID}"
        shutil.copytree(directory.resolve(), root / "anew")
        directory.resolve().rename(root / "before")
        (root / "anew").rename(directory)
        state = engine.running[HYBRID_ID]["State"]
        times = {"FinishedAt": "2026-11-25T03:56:41.5Z", "StartedAt": "2026-11-25T03:56:42.5Z"}
        engine.running[HYBRID_ID] = {**engine.running[HYBRID_ID], "State": {**state, **times}}

    away(engine, restart)
    died, gone, seen, started = take(found, 4)
    assert isinstance(died, Event)
    assert isinstance(seen, Seen)
    assert isinstance(started, Event)
    assert [died.name, started.name] == ["container.die", "container.start"]
    assert died.attributes == {}, "Docker keeps no exit code of a run before"
    assert gone == Gone(HYBRID_ID, died.time_ns)
    assert started.time_ns == died.time_ns + 10**9 == seen.container.started_ns
