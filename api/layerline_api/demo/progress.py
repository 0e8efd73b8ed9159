"""Progress that is always seen: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Stage:
    """One piece of work of known length."""

    def __init__(self, bars: Bars | None, task: TaskID | None) -> None:
        self._bars, self._task = bars, task
        self.said = ""

    def advance(self) -> None:
        """One step is done."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task)

    def note(self, text: str) -> None:
        """What came out of it, shown when the stage ends."""
        self.said = text


class Progress:
    """Where stages are shown."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """A stage: announced when it begins, with its time and result when it ends."""
        began = time.monotonic()
        if self.console.is_terminal:
            with Bars(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
                refresh_per_second=5,
            ) as bars:
                stage = Stage(bars, bars.add_task(title, total=total))
                yield stage
        else:
            self.console.print(f"  … {title}{f' ({total} requests)' if total else ''}", soft_wrap=True)
            stage = Stage(None, None)
            yield stage
        said = f": {stage.said}" if stage.said else ""
        self.console.print(
            f"  [green]✓[/green] {title}{said} [dim]({time.monotonic() - began:.1f} s)[/dim]", soft_wrap=True
        )
