"""A verdict at a terminal: one request's ledger, or a compact block for each operation of a window."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from layerline_api.terminal.text import LAYER_STYLE, WIDTH, bar, cut, fitted, wrapped
from layerline_api.words.verdicts import Line, Story

_TITLE, _NUMBER = 42, 9
_BAR = max(4, WIDTH - _TITLE - 2 * _NUMBER - 2)
_LABEL = 20
#: Operations of a window that are told whole.
_WHOLE = 3


def request(story: Story) -> list[Text]:
    """One request: when and how slow, the answer, the ledger, what to try, what was not seen, how sure."""
    first, *took = _head(story, story.when)
    out = [first, *(line for sentence in story.failed for line in wrapped(sentence, style="bold red")), *took, Text()]
    out += wrapped(" ".join(story.answer), style="bold")
    out += [Text(), *_ledger(story)]
    for blame in story.blames:
        out += [Text(), *wrapped(f"{blame.title}: {blame.who}", style="bold " + LAYER_STYLE.get(blame.layer, ""))]
        out += _labelled("cause", f"{blame.cause}, layer {blame.layer}" if blame.layer else blame.cause)
        out += _labelled("seen", blame.because)
        out += _labelled("try", blame.try_)
        out += _labelled("easily mistaken for", blame.mistaken_for)
        out += _labelled("without it", blame.without)
    if story.suspects:
        out += [Text(), Text("suspects, charged nothing", style="bold")]
        for number, (who, because, enable) in enumerate(story.suspects, 1):
            out += wrapped(f"{number}. {who}: {because}." + (f" To decide: {enable}" if enable else ""), indent=2)
    if story.blind:
        out += [Text(), Text("not measured", style="bold")]
        for title, reason, enable in story.blind:
            out += wrapped(f"{title}: {reason}. To see it: {enable}", indent=2)
    out += [Text(), Text("how sure", style="bold")]
    for sentence in story.sure:
        out += wrapped(sentence, indent=2)
    return out


def window(stories: Sequence[Story]) -> list[Text]:
    """The three worst operations, each with the command that shows one of its requests; a line for each of the others.

    First of all that nothing changed, where nothing did.
    """
    out: list[Text] = []
    worst = [story for story in stories if not story.is_quiet][:_WHOLE]
    if not worst:
        out.append(Text("Nothing changed.", style="bold"))
    for story in worst:
        if out:
            out.append(Text())
        out += _head(story, is_window=True)
        out += wrapped(" ".join(story.answer), style="bold" if story.figures and story.took == story.figures else "")
        if story.standing:
            out += wrapped(story.standing)
        if story.figures and story.took == story.figures:
            out += wrapped(story.figures, style="dim")
        for who, because, _ in story.suspects[:1]:
            out += wrapped(f"First suspect, charged nothing: {who}: {because}.")
        for number, example in enumerate(story.examples):
            out.append(fitted(f"  {'see one' if number == 0 else 'others'}: layerline why {example}", WIDTH))
            if number == 2:
                break
    rest = [story for story in stories if story not in worst]
    if rest and out:
        out.append(Text())
    for story in rest:
        name = f"{cut(story.service, 20)}  {cut(story.operation, 30)}"
        out.append(fitted(f"{name}: {' '.join((*story.failed[:1], *story.answer[:1]))}", WIDTH))
    return out


def _head(story: Story, when: str = "", is_window: bool = False) -> list[Text]:
    """``web  GET /cart          2026-11-23 10:00:00.123 UTC``, and how slow it was; in a window first how it failed."""
    room = WIDTH - cell_len(when) - 2 if when else WIDTH
    service = cut(story.service, room // 2)
    operation = cut(story.operation, room - cell_len(service) - 2)
    name = f"{service}  {operation}"
    gap = " " * (WIDTH - cell_len(name) - cell_len(when)) if when else ""
    first = Text.assemble((service, "bold cyan"), "  ", (operation, "bold"), gap, (when, "dim"))
    failed = [] if when else [line for one in story.failed for line in wrapped(one, style="bold red")]
    took = [] if is_window and story.took == story.figures else wrapped(story.took)
    return [first, *failed, *took]


def _ledger(story: Story) -> list[Text]:
    """A line for each part with its amount, its usual and a bar; below it whose and how it is known."""
    usual = any(line.usual for line in (*story.lines, story.total))
    header = f"{'where the time went':<{_TITLE}}{'ms':>{_NUMBER}}" + (f"{'usual':>{_NUMBER}}" if usual else "")
    out = [Text(header, style="bold")]
    for line in story.lines:
        out.append(_amounts(line, usual))
        below = [note for note in (line.who, *line.notes) if note]
        out += [Text("  " + cut(note, WIDTH - 2), style="dim") for note in below]
    out.append(_amounts(story.total, usual))
    return out


def _amounts(line: Line, usual: bool) -> Text:
    numbers = f"{line.lost:>{_NUMBER}}" + (f"{line.usual:>{_NUMBER}}" if usual else "")
    out = Text.assemble((set_cell_size(cut(line.title or "total", _TITLE - 1), _TITLE), ""), numbers)
    if line.title:
        out.append("  " + bar(line.share, _BAR), style=LAYER_STYLE.get(line.layer, "white"))
    out.rstrip()
    out.truncate(WIDTH)
    return out


def _labelled(label: str, text: str) -> list[Text]:
    """``  try                 Raise the limit …``, wrapped beside its label. Nothing where there is no text."""
    if not text:
        return []
    lines = wrapped(text, indent=_LABEL + 2)
    lines[0] = Text.assemble((f"  {label:<{_LABEL}}", "dim"), lines[0].plain[_LABEL + 2 :])
    return lines
