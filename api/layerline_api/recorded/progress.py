"""How far it is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Between two lines where there is no terminal, and before the first, in seconds.
_EVERY_S, _FIRST_S = 5.0, 2.0
#: What was done in less time says nothing of the rest.
_GUESS_S = 1.0


class Stage:
    """One piece of work; its size is known, or not."""

    def __init__(
        self, console: Console, title: str, total: int | None, bars: Progress | None, task: TaskID | None
    ) -> None:
        self._console, self._title, self._total, self._bars, self._task = console, title, total, bars, task
        self._began = self._advanced = time.monotonic()
        self._told, self._done = self._began - _EVERY_S + _FIRST_S, 0

    def at(self, done: int, note: str = "") -> None:
        """So much of it is done."""
        if done != self._done:
            self._done, self._advanced = done, time.monotonic()
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            share = f"{100 * done // self._total} % " if self._total else ""
            self._console.print(f"  … {self._title}: {share}{note}{self._rest(done)}", soft_wrap=True)

    def _rest(self, done: int) -> str:
        """How long the rest takes if it takes as long as what is done; nothing while that is a guess."""
        passed_s = self._advanced - self._began
        if not self._total or not 0 < done < self._total or passed_s < _GUESS_S:
            return ""
        left_s = max(1.0, passed_s * (self._total - done) / done - (time.monotonic() - self._advanced))
        return f", about {left_s:.0f} s left" if left_s < 120 else f", about {left_s / 60:.0f} min left"


@contextmanager
def stage(console: Console, title: str, total: int | None) -> Iterator[Stage]:
    """Show a piece of work while it lasts."""
    if not console.is_terminal:
        console.print(f"  … {title}", soft_wrap=True)
        yield Stage(console, title, total, None, None)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=console, transient=True) as bars:
        yield Stage(console, title, total, bars, bars.add_task(title, total=total, note=""))
