"""A query, and where in it something is wrong."""

from __future__ import annotations

from rich.cells import cell_len

from layerline_api.words.clean import clean


def pointed(query: str, column: int) -> tuple[str, str]:
    """The query, and below it a caret at the column."""
    text = "".join(clean(char) if not char.isspace() else " " for char in query)
    return f"  {text}", f"  {' ' * cell_len(text[: column - 1])}^"
