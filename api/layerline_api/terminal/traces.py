"""A trace at a terminal: its spans as a tree, what failed in them, and its logs; if asked, everything they carry."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from layerline_api.terminal.text import WIDTH, cut, fitted, wrapped
from layerline_api.words.traces import Fact, Log, Span, TraceStory

_TOOK = 12


def lines_of_trace(story: TraceStory, *, attributes: bool) -> list[Text]:
    """The tree, then the logs. ``attributes``: with attributes, events, links and stack traces."""
    out: list[Text] = []
    for span in story.spans:
        out += _span(span, attributes)
    if story.more_spans:
        out.append(Text(f"and {story.more_spans:,} more spans: --json has all"))
    if story.logs:
        out += [Text(), Text("logs", style="bold")]
        for log in story.logs:
            out += _log(log, attributes)
    if story.more_logs:
        out.append(Text(f"and {story.more_logs:,} more log records"))
    if not attributes and any(span.facts or span.events or span.links for span in story.spans):
        out += [Text(), fitted(f"attributes, events and links: layerline trace {story.trace_id} --attributes", WIDTH)]
    return out


def _span(span: Span, attributes: bool) -> Iterator[Text]:
    indent = min(2 * span.depth, 30)
    name = cut(f"{' ' * indent}{span.service}  {span.name}", WIDTH - _TOOK - 2)
    gap = " " * (WIDTH - _TOOK - cell_len(name))
    yield Text(f"{name}{gap}{span.took:>{_TOOK}}", style="bold red" if span.failed else "")
    if span.error:
        yield from wrapped(
            span.error if span.failed else f"handled: {span.error}", indent + 4, "red" if span.failed else ""
        )
    elif span.failed:
        yield Text(" " * (indent + 4) + "failed", style="red")
    if not attributes:
        return
    yield from _facts(span.facts, indent + 4)
    for event in span.events:
        yield Text(cut(f"{' ' * (indent + 4)}{event.name}, after {event.when}", WIDTH), style="bold")
        yield from _facts(event.facts, indent + 6)
    for link in span.links:
        yield Text(cut(f"{' ' * (indent + 4)}linked to layerline trace {link}", WIDTH))
    if span.left_out:
        yield from wrapped(span.left_out, indent + 4, "dim")


def _facts(facts: tuple[Fact, ...], indent: int) -> Iterator[Text]:
    for fact in facts:
        if fact.lines:
            yield Text(f"{' ' * indent}{cut(fact.name, WIDTH - indent)}", style="dim")
            yield from (Text(f"{' ' * indent}{line}") for line in fact.lines)
        else:
            yield from wrapped(f"{fact.name} = {fact.value}", indent, "dim")


def _log(log: Log, attributes: bool) -> Iterator[Text]:
    whose = f"{log.service}: " if log.service else ""
    tied = f" ({log.tied_by})" if log.tied_by else ""
    lines = wrapped(f"{log.when} {log.level} {whose}{log.body}{tied}", 2, "red" if log.is_error else "")
    yield from lines
    if attributes:
        yield from _facts(log.facts, 6)
