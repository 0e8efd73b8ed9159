"""The elements of the lists in a large JSON document, one at a time.

Jaeger's API answers with one object whose list ``data`` holds the traces; a gigabyte of it must not be in memory. The
standard library's parser reads each element where it stands and says where it ends, so that reading can go on from
there after a restart, and so that one damaged element does not cost the others. 72 MB of Jaeger JSON took it 0.9 s,
ijson's C backend 2.3 s, and DuckDB's reader, which needs the whole document in memory, 5.1 s.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from layerline_api.recorded.gathered import Place, Unreadable, shown

#: No element is larger than this, in characters.
ELEMENT_LIMIT = 256 * 2**20
_CHUNK_BYTES = 2**20
_DECODE = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
#: An error this near to the end of what was read so far may be cured by reading on.
_NEAR = 64


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a list, or why there is none; and where reading would go on after it."""

    inside: str  # the list's name
    line: int  # where it begins
    value: Any
    problem: str | None
    after: Place


class Broken(Unreadable):
    """The document ends, or is something else, where this was expected."""


class _Text:
    """A window on a stream of UTF-8. Bytes that are none become lone surrogates, so that lengths can be told."""

    def __init__(self, stream: BinaryIO, begin: Place) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0  # in text
        self.ended = False
        self._told = 0  # in text: offset and line are those of this character
        self._offset, self._line = begin.offset, begin.line

    def place(self, inside: str = "") -> Place:
        """Where we are."""
        passed = self.text[self._told : self.at]
        self._offset += len(passed) if passed.isascii() else len(passed.encode("utf-8", "surrogateescape"))
        self._line += passed.count("\n")
        self._told = self.at
        return Place(self._offset, self._line, inside)

    def more(self) -> bool:
        """Read on, at least as much again as is ahead of us. False at the end of the stream."""
        if self.ended:
            return False
        chunk = self._stream.read(max(_CHUNK_BYTES, len(self.text) - self.at))
        self.ended = not chunk
        self.text += self._decoder.decode(chunk, final=self.ended)
        return True

    def forget(self) -> None:
        """Forget what is behind us, once it is much."""
        if self.at > _CHUNK_BYTES:
            self.place()
            self.text, self.at, self._told = self.text[self.at :], 0, 0

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def expect(self, wanted: str) -> str:
        """Pass one of the wanted characters. ``Broken``."""
        found = self.peek()
        if not found or found not in wanted:
            what = " or ".join(repr(character) for character in wanted)
            raise Broken(f"expected {what}, found {shown(self.text[self.at : self.at + 20]) if found else 'the end'}")
        self.at += 1
        return found

    def value(self) -> Any:
        """Pass one JSON value. ``Broken``, and then we are where it began."""
        self.forget()
        self.peek()
        while True:
            try:
                value, end = _DECODE(self.text, self.at)
            except json.JSONDecodeError as problem:
                cut = problem.msg.startswith("Unterminated string") or problem.pos >= len(self.text) - _NEAR
                if cut and len(self.text) - self.at <= ELEMENT_LIMIT and self.more():
                    continue
                if cut and self.ended:
                    raise Broken("the file ends inside it") from None
                line = self.place().line + self.text.count("\n", self.at, problem.pos)
                raise Broken(f"it is not JSON: {problem.msg} in line {line}") from None
            except RecursionError:
                raise Broken("it is nested too deeply") from None
            if end == len(self.text) and isinstance(value, int | float) and self.more():
                continue  # a number may go on
            self.at = end
            return value

    def skip_to(self, pattern: re.Pattern[str], characters: int) -> bool:
        """Go on that far, and to where the pattern is found. False, and at the end, where it is not."""
        self.at = min(self.at + characters, len(self.text))
        while (found := pattern.search(self.text, self.at)) is None:
            self.at = max(self.at, len(self.text) - 4096)  # the pattern may stand across the border
            self.forget()
            if not self.more():
                self.at = len(self.text)
                return False
        self.at = found.start()
        return True


def elements(stream: BinaryIO, begin: Place, wanted: Collection[str], beginning: re.Pattern[str]) -> Iterator[Element]:
    """The elements of the wanted lists of the document (or of several, one after another) that the stream holds.

    The stream is at ``begin``. What is damaged is told as an element without a value, and reading goes on at the next
    place that looks like the ``beginning`` of one. ``Broken`` where there is no such document.
    """
    text = _Text(stream, begin)
    inside, first = begin.inside, not begin.inside
    at_element = bool(inside) and text.peek() not in (",", "]", "")
    while inside or text.peek():
        try:
            if not inside:
                inside = _next_list(text, wanted, first)
                first = not inside
                at_element = bool(inside) and text.peek() != "]"
            elif at_element:
                text.peek()
                line = text.place().line
                value = text.value()
                at_element = False
                yield Element(inside, line, value, None, text.place(inside))
            elif text.expect(",]") == ",":
                at_element = True
            else:
                inside = ""
        except Broken as problem:
            if not inside:
                raise
            line = text.place().line
            at_element = text.skip_to(beginning, 1 if at_element else 0)
            lost = "" if at_element else "; nothing after it could be read"
            yield Element(inside, line, None, f"{problem}{lost}", text.place(inside))
            if not at_element:
                return


def _next_list(text: _Text, wanted: Collection[str], first: bool) -> str:
    """Go into the next wanted list of the object; its name, or nothing at the end of the object. ``Broken``."""
    if first:
        text.expect("{")
    while text.peek() != "}":
        if not first:
            text.expect(",")
        first = False
        name = text.value()
        text.expect(":")
        if name in wanted and text.peek() == "[":
            text.at += 1
            return str(name)
        text.value()
    text.at += 1
    return ""
