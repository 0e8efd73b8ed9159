"""The bytes of a JSON body as text that every later step can take."""

from __future__ import annotations

import json
import re

#: A backslash that stands for itself, a pair that is one character, half a pair alone.
_ESCAPE = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def text_of(body: bytes) -> str:
    """The body decoded (UTF-8, -16 or -32, as JSON allows); half a surrogate pair becomes U+FFFD.

    JavaScript cuts texts between the halves of a pair, and neither protobuf nor UTF-8 can hold one half: what was sent
    beside it must not be lost with it. ValueError where the bytes are no text.
    """
    text = body.decode(json.detect_encoding(body))
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda found: "\\ufffd" if found[1] else found[0], text)
