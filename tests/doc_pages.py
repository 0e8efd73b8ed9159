"""The examples of the documents: blocks, the files that they show, the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: What people read. docs/COMMANDS.md says how commands are called; it is made of their files.
DOCUMENTS = sorted(
    {ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")}
    - {ROOT / "docs/COMMANDS.md"}
)
_BLOCK = re.compile(r"(?:^<!-- not run: ([^>]+) -->\n)?^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.M | re.S)
_BEGINS = re.compile(
    r"(?:[A-Z0-9_]+=\S+ )*(?:layerline(?! \S+:)|curl|pip|make|docker|npm|python3?|\.venv/bin/\w+)(?: |$)"
)


@dataclass(frozen=True)
class Block:
    """A fenced example."""

    heading: str
    language: str
    title: str
    text: str
    not_run: str
    """Why no test runs it; empty where one does."""

    @property
    def commands(self) -> list[str]:
        """Its commands, each with the lines that belong to it."""
        prompts = any(line.startswith("$ ") for line in self.text.splitlines())
        if self.language not in ("", "sh") or (self.language == "" and self.title):
            return []
        found: list[str] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            if prompts:
                begins = line.startswith("$ ")
            else:
                begins = bool(line.strip()) and (self.language == "sh" or bool(_BEGINS.match(line)))
            if not begins:
                continue
            command = line.removeprefix("$ ")
            while not _is_whole(command):
                command = command.removesuffix("\\") + "\n" + next(lines)
            found.append(command)
        return found


def blocks(page: Path) -> list[Block]:
    """The page's examples, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.+)$", text[: match.start()], re.M)
        not_run, language, title, body = (part or "" for part in match.groups())
        found.append(Block(headings[-1] if headings else "", language, title, body, not_run))
    return found


def words(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables before a command, and its words."""
    split = shlex.split(command, comments=True)
    variables: dict[str, str] = {}
    while split and re.fullmatch(r"[A-Z0-9_]+=.*", split[0], re.S):
        name, _, value = split.pop(0).partition("=")
        variables[name] = value
    return variables, split


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")
