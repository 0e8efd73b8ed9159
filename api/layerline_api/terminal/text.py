"""Lines of text at a terminal: at most 80 columns, colours only where they are wanted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

WIDTH = 80
#: The pages have the same (page/style.css). Red is kept for what failed or is not as usual.
LAYER_STYLE = {
    "app": "blue",
    "dependency": "magenta",
    "network": "cyan",
    "container": "yellow",
    "host": "green",
}
_UNIT = re.compile(r"(?<=\d) (?=(?:ms|µs|s|min)\b|%)")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_lines(lines: Sequence[Text]) -> None:
    """For people."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the bars' characters gets question marks
    show(lines, Console(width=WIDTH, highlight=False, markup=False, emoji=False))
    sys.stdout.flush()


def show(lines: Iterable[Text], console: Console) -> None:
    """Print the lines as they are."""
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False, highlight=False)


def wrapped(text: str, indent: int = 0, style: str = "") -> list[Text]:
    """The text in lines of at most 80 columns, broken between words; words that are too long are broken themselves.

    A number stays with its unit.
    """
    text = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    room = WIDTH - indent
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= room:
            line = joined
            continue
        if line:
            lines.append(line)
        while cell_len(word) > room:
            head = set_cell_size(word, room).rstrip()
            lines.append(head)
            word = word[len(head) :]
        line = word
    lines.append(line)
    return [Text(" " * indent + one.replace("\N{NO-BREAK SPACE}", " "), style=style) for one in lines]


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` columns, ending in … where something was left out."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def fitted(text: str, width: int) -> Text:
    """The same as a ``Text``."""
    return Text(cut(text, width))


def bar(share: float, width: int) -> str:
    """A share of ``width`` cells, to an eighth of a cell; something that is not nothing is always seen."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
