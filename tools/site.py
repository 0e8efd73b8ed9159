"""What the site shows beside docs/*.md: SECURITY.md of the repository's root, and the README's verdict.

mkdocs calls these functions (``hooks`` in mkdocs.yml). A link from a page to a file of the repository that is no page
becomes the file's name: a reader of the site has no repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
#: Where index.md wants the README's example.
VERDICT = "<!-- the verdict of README.md -->"
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def verdict() -> str:
    """The README's first example, in its fence. ValueError where it is not what it was."""
    block = _FENCE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    if block is None or "$ layerline why" not in block[0]:
        raise ValueError("README.md: expected its first example to be `layerline why TRACE_ID`")
    return block[0]


def as_page(text: str, pages: set[str]) -> str:
    """A page's Markdown with links that lead somewhere on the site."""

    def linked(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        path, hash_, anchor = target.partition("#")
        name = path.removeprefix("../").removeprefix("docs/")
        if not path or re.match(r"[a-z]+:", target) or path.startswith("pictures/"):
            return match[0]
        return f"[{words}]({name}{hash_}{anchor})" if name in pages else words

    parts, at = [], 0
    for fence in _FENCE.finditer(text):  # examples stay as they are
        parts += [re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", linked, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join(parts) + re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", linked, text[at:])


def on_files(files: Files, *, config: Any) -> Files:
    """Add SECURITY.md, which stands where code hosts look for it."""
    files.append(File.generated(config, "SECURITY.md", content=(ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Put in the verdict, and mend links."""
    pages = {file.src_uri for file in files.documentation_pages()}
    return as_page(markdown.replace(VERDICT, verdict()), pages)
