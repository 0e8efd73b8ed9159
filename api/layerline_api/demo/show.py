"""The demo from its first line to its last: where it runs, what it shows, and that nothing stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from docker.errors import DockerException
from requests.exceptions import RequestException
from rich.console import Console

from layerline_api.demo import engine, layout
from layerline_api.demo.ask import Ask
from layerline_api.demo.containers import Containers
from layerline_api.demo.faults import Fault, all_faults
from layerline_api.demo.judge import Judgement, judge
from layerline_api.demo.layout import Cores
from layerline_api.demo.place import DemoError, Place, clean_environment
from layerline_api.demo.processes import Processes
from layerline_api.demo.progress import Progress
from layerline_api.demo.running import Shop
from layerline_api.demo.story import Chapter, tell, warm_up
from layerline_api.demo.table import table
from layerline_api.demo.watching import Watching

#: A verdict is settled ten seconds after its request; some more, so that a busy server does not fail the demo.
SETTLE_S = 20.0
NEEDS_CONTAINER = "it needs a container"


def show(keep: bool = False, plain: bool = False) -> int:
    """Run the demo. Returns the exit code; Ctrl-C, SIGTERM and SIGHUP end it early, and cleanly."""
    console = Console(highlight=False)
    with ending_on_signals():
        try:
            with ExitStack() as stack:
                try:
                    return _show(console, stack, keep, plain)
                finally:
                    ignore_signals()
                    console.print("[dim]cleaning up[/dim]")
        except KeyboardInterrupt:
            console.print("interrupted; everything that was started has been removed")
            return 130
        except (DemoError, DockerException, RequestException) as problem:
            Console(stderr=True, highlight=False).print(f"layerline demo: {problem}", markup=False)
            return 2


def _show(console: Console, stack: ExitStack, keep: bool, plain: bool) -> int:
    progress = Progress(console)
    console.print("[bold]A small shop: web → stock → prices[/bold] (prices is not instrumented)")
    console.print("Each may use every core, but stock and its busy neighbour must share one.")
    with progress.stage("preparing"):
        stage = set_stage(console, stack, plain)
    watching = Watching(stage.place, stack.enter_context(Processes()), stage.cores)
    shop = Shop(stage.place, stage.cores, watching)
    stack.callback(shop.close)
    with progress.stage("starting the server and the agent"):
        watching.open_server()
        watching.open_agent()
    with progress.stage("starting the shop"):
        shop.open_services()
    ask = stack.enter_context(Ask(watching.url, watching.token))
    with layout.staying_on(stage.cores.rest):
        warm_up(shop, ask, progress)
        allowed = [fault for fault in stage.faults if fault.unable is None]
        chapters = list(tell(shop, watching, allowed, progress))
    judgements = judge_all(ask, chapters, progress)
    console.print()
    console.print(table(judgements, [fault for fault in stage.faults if fault.unable is not None]))
    for judgement in judgements:
        for wrong in judgement.wrong:
            console.print(f"[red]not ok[/red] {judgement.chapter.fault.title}: {wrong}")
    if judgements:
        why(console, watching, judgements[0].example)
    if keep:
        stay(console, watching, shop)
    return 0 if all(judgement.ok for judgement in judgements) else 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the shop runs, which cores its parts may use, and what can be done to it there."""

    place: Place
    cores: layout.Cores
    faults: list[Fault]


def watched_containers(console: Console, stack: ExitStack) -> tuple[Containers, Watching, Cores]:
    """Containers, and server and agent that watch them; ``stack`` ends them. NoEngine where there can be no containers,
    DemoError on one core.
    """
    cores = layout.here()
    if cores.subject is None:
        raise DemoError("one core found, expected at least two: what measures would disturb what is measured")
    client = engine.connect()
    stack.callback(client.close)
    place = Containers(client)
    stack.callback(report_problems, console, place)
    stack.enter_context(place)
    engine.probe(place)
    watching = Watching(place, stack.enter_context(Processes()), cores)
    watching.open_server()
    watching.open_agent()
    return place, watching, cores


def set_stage(console: Console, stack: ExitStack, plain: bool) -> Stage:
    """Containers where the engine is this machine's own; plain processes otherwise, saying why."""
    cores = layout.here()
    try:
        if plain:
            raise engine.NoEngine("plain processes were asked for")
        client = engine.connect()
        stack.callback(client.close)
        containers = Containers(client)
        stack.callback(report_problems, console, containers)
        able = engine.abilities(client.info())
        try:
            stack.enter_context(containers)
        except (DockerException, RequestException) as problem:
            raise engine.NoEngine(f"the engine does not do its part ({engine.innermost(problem)})") from problem
        engine.probe(containers)
    except engine.NoEngine as reason:
        console.print("  [yellow]plain processes instead of containers:[/yellow]", end=" ")
        console.print(str(reason), markup=False)
        faults = all_faults(quota=NEEDS_CONTAINER, write_limit=NEEDS_CONTAINER)
        return Stage(stack.enter_context(Processes()), cores, faults)
    if able.cpuset is not None:
        cores = layout.Cores(None, None)
    faults = all_faults(quota=able.quota, neighbour=able.cpuset, write_limit=able.write_limit)
    return Stage(containers, cores, faults)


def judge_all(ask: Ask, chapters: Sequence[Chapter], progress: Progress) -> list[Judgement]:
    """Ask for the verdict of every request with a fault, once it is settled."""
    judgements = []
    deadline = time.monotonic() + SETTLE_S
    with progress.stage("asking for verdicts", sum(len(chapter.faulty) for chapter in chapters)) as stage:
        for chapter in chapters:
            verdicts = []
            for response in chapter.faulty:
                if (verdict := ask.verdict(response.trace_id, deadline - time.monotonic())) is not None:
                    verdicts.append(verdict)
                stage.advance()
            judgements.append(judge(chapter, verdicts))
    return judgements


def why(console: Console, watching: Watching, trace_id: str) -> None:
    """Show what a person at a terminal of 80 columns sees."""
    console.print(f"\n[bold]$ layerline why {trace_id}[/bold]")
    asking = {"LAYERLINE_SERVER": watching.url, "LAYERLINE_TOKEN": watching.token, "COLUMNS": "80"}
    answer = subprocess.run(
        [sys.executable, "-m", "layerline.command", "why", trace_id],
        env=clean_environment() | asking,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    console.print(answer.stdout + answer.stderr, markup=False, soft_wrap=True)


def stay(console: Console, watching: Watching, shop: Shop) -> None:
    """Leave everything running until Ctrl-C, and say how to reach it."""
    console.print("[bold]Still running.[/bold] In another terminal:")
    console.print(f"  export LAYERLINE_SERVER={watching.url} LAYERLINE_TOKEN={watching.token}", soft_wrap=True)
    console.print("  layerline why")
    console.print(f"  curl {shop.cart}", soft_wrap=True)
    console.print("Ctrl-C ends it and removes everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print()


def report_problems(console: Console, containers: Containers) -> None:
    """Say what is left, if something is. Runs after the containers are closed."""
    for problem in containers.problems:
        console.print(f"  [red]{problem}[/red]")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on the demo cleans up, which takes a few seconds; a second Ctrl-C would leave things behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
