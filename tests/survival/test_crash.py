"""Whatever ends the server: every span, point and event that it acknowledged is there afterwards, exactly once.

It is killed ten times, a hundred times with ``make crash`` (``--kills``). Moments are drawn from a seed, which is
printed; what fails says what was acknowledged and what was found, and its folder is kept.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import kept
import older_stores
import pytest
from real_server import Contained, Process, Server, command, small_disk
from senders import Acknowledged, sending, traces
from stage import Stage

from layerline_api.commands import recorded
from waiting import eventually

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]

#: What a start and an end may take, in seconds, less what the process waited for a CPU of a busy machine.
START_S, END_S = 5.0, 10.0
UPKEEP = Path(__file__).parent / "upkeep_server.py"
Kills = Callable[[float], int]

#: Traces of which a request is not worked out yet.
LEFT = """
SELECT count(*) FROM (SELECT DISTINCT trace_id FROM spans WHERE trace_id NOT IN (SELECT trace_id FROM requests))
"""
WORKED_OUT_S = 600.0


def check(stage: Stage, server: Server, known: Acknowledged, when: str, since_ns: int = 0) -> None:
    """The store of a server that was ended holds what was acknowledged."""
    stage.acknowledged = str(known)
    wrong = kept.problems(server.store, known.so_far(), since_ns)
    assert not wrong, "\n".join([f"{when}, --seed {stage.seed}; acknowledged: {known}", *wrong])
    assert "Traceback" not in server.said(), server.said()[-3000:]


def check_whole(stage: Stage, known: Acknowledged, folder: Path | None = None) -> None:
    """It starts again, works out every trace, ends when it is told to, and has kept everything."""
    server = stage.start(folder=folder)
    assert server.until_ready() < START_S
    until_worked_out(server)
    check_end(server)
    wrong = kept.problems(server.store, known.so_far(), worked_out=True)
    assert not wrong, "\n".join([f"in the end, --seed {stage.seed}; acknowledged: {known}", *wrong])


def until_worked_out(server: Server) -> None:
    """Wait until every trace has its requests. Thousands may be left after so many kills, on a machine that has as much
    else to do; a question takes from what works them out."""
    eventually(lambda: server.rows(LEFT) == [[0]], "a request of every trace", within_s=WORKED_OUT_S, every_s=1)


def check_end(server: Server) -> None:
    """It ends when it is told to, with 0, soon."""
    code, took_s = server.end()
    assert code == 0, f"exit code {code} after SIGTERM; its log:\n{server.said()[-3000:]}"
    assert took_s < END_S


def until_more(known: Acknowledged) -> None:
    """Wait until something more was acknowledged: a kill before that would try nothing."""
    before = known.answers["200"]
    eventually(lambda: known.answers["200"] > before + 2, "an acknowledgement")


def test_killed_while_it_takes_data(stage: Stage, kills: Kills) -> None:
    """Four senders by HTTP and gRPC, and kill -9 within moments: nothing acknowledged is lost, nothing is doubled, what
    adds up adds up, and it is there again within five seconds."""
    draw, known = stage.draw("kills"), Acknowledged()
    with sending(stage.ports, stage.seed, known):
        for number in range(kills(0.4)):
            server = stage.start()
            assert server.until_ready() < START_S
            until_more(known)
            time.sleep(draw.choice([0.0, 0.3, 1.0]) * draw.random())
            server.kill()
            check(stage, server, known, f"kill {number}")
        server = stage.start()
        server.until_ready()
        until_more(known)
        server.kill()
    check_whole(stage, known)


def test_killed_while_it_checkpoints_and_deletes(stage: Stage, kills: Kills) -> None:
    """The same while old data is deleted and the log is written back all the time: what is young enough is there."""
    draw, known, retain_s = stage.draw("upkeep"), Acknowledged(), 4
    with sending(stage.ports, stage.seed, known):
        for number in range(kills(0.2)):
            server = stage.start(UPKEEP, LAYERLINE_RETAIN=f"{retain_s}s")
            assert server.until_ready() < START_S
            until_more(known)
            time.sleep(draw.random())
            server.kill()
            check(stage, server, known, f"kill {number}", since_ns=time.time_ns() - retain_s * 10**9)


def write_recording(path: Path, traces: int) -> None:
    """OTLP as a Collector writes it to a file, a few traces on each line; five spans each."""
    with path.open("w", encoding="utf-8") as file:
        for line in range(traces // 20):
            spans = []
            for number in range(line * 20, line * 20 + 20):
                start_ns = 1_790_000_000_000_000_000 + number * 20_000_000
                for place in range(5):
                    parent = {"parentSpanId": f"{number * 5 + 1:016x}"} if place else {}
                    spans.append(
                        {
                            "traceId": f"{number + 1:032x}", "spanId": f"{number * 5 + place + 1:016x}", **parent,
                            "name": "SELECT" if place else "GET /", "kind": 3 if place else 2,
                            "startTimeUnixNano": str(start_ns + place * 1_000_000),
                            "endTimeUnixNano": str(start_ns + 40_000_000 - place * 5_000_000),
                        }
                    )  # fmt: skip
            resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]}
            file.write(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}) + "\n")


def kill_within(process: Process | Contained, file: Path, seconds: float) -> None:
    """kill -9 so long after it has made this file, unless it is over by then."""
    eventually(lambda: process.ended() is not None or file.exists(), f"{file} or its end")
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.ended() is None:
        time.sleep(0.02)
    process.signal(9)


def until_ended(process: Process | Contained) -> int:
    eventually(lambda: process.ended() is not None, "the end of a process")
    code = process.ended()
    assert code is not None
    return code


def test_killed_while_it_imports(stage: Stage, kills: Kills) -> None:
    """An import that is killed and started again, until it ends by itself, has each span of the file once."""
    draw, traces = stage.draw("import"), 4_000
    path, store, log = stage.folder / "traces.json", stage.folder / "store", stage.folder / "import.log"
    write_recording(path, traces)
    known = Acknowledged({(f"{number // 5 + 1:032x}", f"{number + 1:016x}"): 1 for number in range(5 * traces)})
    left = kills(0.2)
    while True:
        shutil.rmtree(store, ignore_errors=True)
        while True:
            process = stage.run(command(recorded, "--store", str(store), str(path)), {}, log)
            if left:
                left -= 1
                kill_within(process, store / "hot.duckdb", draw.uniform(0, 2))
            code, why = until_ended(process), process.close()
            assert not why, why
            if code == 0:
                break
            assert code in (-9, 137), (code, log.read_text()[-3000:])
        wrong = kept.problems(store, known, worked_out=True)
        assert not wrong, "\n".join([f"--seed {stage.seed}, {left} kills left", *wrong])
        if not left:
            break


@pytest.mark.parametrize("file", older_stores.FILES, ids=lambda file: file.stem)
def test_killed_while_it_takes_over_an_older_store(stage: Stage, kills: Kills, file: Path) -> None:
    """A store that an earlier version wrote, and kill -9 at any moment of the starts after that: all of it is there."""
    draw, folder = stage.draw("older"), stage.folder
    for number in range(kills(0.2 / len(older_stores.FILES))):
        shutil.rmtree(folder / "store", ignore_errors=True)
        older_stores.make(file, folder / "store")
        for _ in range(2):
            server = stage.start()
            # Importing alone takes most of a start: look for the moment at which the store is opened.
            eventually(lambda at=server: at.process.ended() is not None or has_open(at.process.pid), "an open store")
            time.sleep(draw.uniform(0, 0.5))
            server.kill()
        check_older(folder / "store", f"kill {number}, --seed {stage.seed}")
    server = stage.start()
    server.until_ready()
    until_worked_out(server)
    check_end(server)
    check_older(folder / "store", f"in the end, --seed {stage.seed}")


def has_open(pid: int) -> bool:
    """Whether this process has the database open, or a copy of it."""
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if "hot.duckdb" in os.readlink(f"/proc/{pid}/fd/{number}"):
                    return True
    return False


def check_older(store: Path, when: str) -> None:
    with kept.opened(store) as database:
        found = database.execute(
            "SELECT (SELECT count(DISTINCT (trace_id, span_id)) FROM span), (SELECT count(*) FROM span),"
            " (SELECT count(*) FROM point), (SELECT count(*) FROM event)"
        ).fetchone()
        assert found == (older_stores.SPANS, older_stores.SPANS, older_stores.POINTS, older_stores.EVENTS), when
        assert not kept.never(database), when


@contextmanager
def full_disk(stage: Stage, known: Acknowledged) -> Iterator[tuple[Server, Path]]:
    """A server whose disk has no room left while senders send, and the file to delete to make room."""
    folder = stage.folder / "disk"
    try:
        with small_disk(folder, megabytes=40), copied_on_failure(folder, stage.folder / "copy-of-disk"):
            server = stage.start(folder=folder)
            server.until_ready()
            with sending(stage.ports, stage.seed, known):
                until_more(known)
                ballast = fill(folder)
                eventually(lambda: known.answers["503"] > 5, "a full disk")
                yield server, ballast
    except PermissionError as problem:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{problem} (CI=true: not skipped)", pytrace=False)
        pytest.skip(str(problem))
    finally:
        if folder.exists():
            folder.rmdir()


@contextmanager
def copied_on_failure(folder: Path, to: Path) -> Iterator[None]:
    """A disk goes away with its test: what is on it is kept where the test fails."""
    try:
        yield
    except BaseException:
        shutil.copytree(folder, to, ignore=shutil.ignore_patterns("ballast"))
        raise


def fill(folder: Path) -> Path:
    """A file that takes what room is left on a disk."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass
    return ballast


@pytest.mark.parametrize("ending", ["killed", "told to end", "given room"])
def test_full_disk(stage: Stage, kills: Kills, ending: str) -> None:
    """A disk fills up; however the server ends then, what it acknowledged is there, and with room it takes more."""
    for number in range(kills(0.1) if ending == "killed" else 1):
        known = Acknowledged()
        with full_disk(stage, known) as (server, ballast):
            if ending == "killed":
                server.kill()
            elif ending == "told to end":
                check_end(server)
            ballast.unlink()
            if ending == "given room":
                until_more(known)
                check_end(server)
            check(stage, server, known, f"{ending} {number}")
            again = stage.start(folder=server.store.parent)
            assert again.until_ready() < START_S
            until_more(known)
            check_end(again)
            check(stage, again, known, f"{ending} {number}, with room again")


def test_questions_while_the_disk_is_full(stage: Stage) -> None:
    """While the disk is full, questions are answered, senders are told why, and it says that it is not ready."""
    with full_disk(stage, Acknowledged()) as (server, ballast):
        assert server.ask("/healthz").status == 200
        for path in ("/api/v1/requests", "/api/v1/coverage", "/api/v1/incidents", "/metrics", "/"):
            assert server.ask(path).status == 200, f"{path} with a full disk"
        refused = server.ask(
            "/v1/traces", "POST", traces(stage.draw("one"), "one")[1], **{"Content-Type": "application/x-protobuf"}
        )
        assert refused.status == 503
        assert "retry-after" in refused.headers
        assert b"No space left" in refused.body, refused.body
        assert server.ask("/readyz").status == 503
        ballast.unlink()
        eventually(lambda: server.ask("/readyz").status == 200, "ready again, with room")
        check_end(server)


def test_start_on_a_full_disk(stage: Stage) -> None:
    """A server that is started while the disk is full answers, tells senders why it takes nothing, and recovers."""
    known = Acknowledged()
    with full_disk(stage, known) as (server, ballast):
        server.kill()
        fill(ballast.parent)  # also what the kill gave back
        again = stage.start(folder=server.store.parent)
        again.until("/healthz")
        for path in ("/api/v1/requests", "/api/v1/coverage", "/metrics", "/"):
            assert again.ask(path).status == 200, f"{path} after a start on a full disk"
        assert again.ask("/readyz").status == 503
        refused = again.ask(
            "/v1/traces", "POST", traces(stage.draw("one"), "one")[1], **{"Content-Type": "application/x-protobuf"}
        )
        assert refused.status == 503
        assert b"No space left" in refused.body, refused.body
        ballast.unlink()
        eventually(lambda: again.ask("/readyz").status == 200, "ready again, with room")
        until_more(known)
        check_end(again)
        check(stage, again, known, "started on a full disk")


#: Counts for longer than any patience.
ENDLESS = json.dumps({"sql": "SELECT count(*) FROM range(1000000000000)"}).encode()


def test_told_to_end_under_load(stage: Stage) -> None:
    """SIGTERM while senders send and questions are asked, one of them without end: exit code 0 within ten seconds, and
    everything that was acknowledged is there."""
    known = Acknowledged()
    for number in range(2):
        server = stage.start()
        server.until_ready()
        stop = threading.Event()

        def ask_on(
            path: str, method: str, body: bytes | None, of: Server = server, until: threading.Event = stop
        ) -> None:
            while not until.is_set():
                with suppress(OSError, http.client.HTTPException):
                    of.ask(path, method, body, **{"Content-Type": "application/json"})
                until.wait(0.05)

        questions = [
            ("/api/v1/sql", "POST", ENDLESS),
            ("/api/v1/verdicts", "GET", None),
            ("/api/v1/coverage", "GET", None),
        ]
        askers = [threading.Thread(target=ask_on, args=question, daemon=True) for question in questions]
        with sending(stage.ports, f"{stage.seed} {number}", known):
            until_more(known)
            for asker in askers:
                asker.start()
            until_more(known)
            try:
                check_end(server)
            finally:
                stop.set()
        for asker in askers:
            asker.join(60)
        check(stage, server, known, f"end {number}")
    check_whole(stage, known)
