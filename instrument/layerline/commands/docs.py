"""Read the documentation in the terminal: `layerline docs` lists the pages, `layerline docs NAME` prints one.

The pages are part of the package: they describe the version that is installed.
"""

from __future__ import annotations

import os
import pydoc
import sys
from collections.abc import Sequence
from pathlib import Path

from layerline.parsing import Parser, meant

#: In a wheel, copies of the pages: messages, help texts and the API's document name them, and its user has no
#: repository. In the repository, a link to the folder ``docs``.
FOLDER = Path(__file__).parent.parent / "doc-pages"


def pages() -> dict[str, Path]:
    """The pages by the name that ``layerline docs`` takes: ``SHORT_LIVES.md`` is ``short_lives``."""
    return {path.stem.lower(): path for path in sorted(FOLDER.glob("*.md"), key=lambda path: path.stem.lower())}


def title(page: Path) -> str:
    """A page's first heading."""
    with page.open(encoding="utf-8") as lines:
        return next((line.lstrip("# ").rstrip() for line in lines if line.startswith("# ")), "")


def main(argv: Sequence[str]) -> int:
    """``layerline docs [NAME]``.

    Exit codes: 0 something was printed, 2 there is no page of that name.
    """
    parser = Parser(prog="layerline docs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", metavar="NAME", help="a page, such as sql")
    options = parser.parse_args(argv)
    known = pages()
    try:
        if options.name is None:
            width = max((len(name) for name in known), default=0)
            print(*(f"{name.ljust(width)}  {title(page)}" for name, page in known.items()), sep="\n", flush=True)
            return 0
        page = known.get(Path(options.name).name.removesuffix(".md").lower().replace("-", "_"))
        if page is None:
            print(
                f"layerline docs: there is no page {options.name!r}; there are: {', '.join(known) or 'none'}"
                + meant(options.name.lower(), known),
                file=sys.stderr,
            )
            return 2
        text = page.read_text(encoding="utf-8")
        if sys.stdout.isatty():
            os.environ.setdefault("LESS", "FRX")
            pydoc.pager(text)
        else:
            print(text, end="", flush=True)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
