"""How far it is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Between two lines where there is no terminal.
_EVERY_S = 5.0


class Stage:
    """One piece of work; its size is known, or not."""

    def __init__(
        self, console: Console, title: str, total: int | None, bars: Progress | None, task: TaskID | None
    ) -> None:
        self._console, self._title, self._total, self._bars, self._task = console, title, total, bars, task
        self._told = time.monotonic()

    def at(self, done: int, note: str = "") -> None:
        """So much of it is done."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            share = f"{100 * done // self._total} % " if self._total else ""
            self._console.print(f"  … {self._title}: {share}{note}", soft_wrap=True)


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
