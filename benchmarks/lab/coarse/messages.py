"""OTLP messages that each follow their length in four bytes, most significant first, as the Collector writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

Sent = TypeVar("Sent", bound="Message")


class Message(Protocol):
    """What is needed of protobuf's messages."""

    def ParseFromString(self, serialized: bytes, /) -> int: ...
    def SerializeToString(self) -> bytes: ...


def read_messages(path: Path, kind: type[Sent]) -> Iterator[Sent]:
    """The messages of a file; one that was cut off at its end is left out."""
    with path.open("rb") as file:
        while len(prefix := file.read(4)) == 4:
            body = file.read(length := int.from_bytes(prefix, "big"))
            if len(body) < length:
                return
            message = kind()
            message.ParseFromString(body)
            yield message


def write_messages(path: Path, messages: Iterable[Message]) -> None:
    """A file of these messages."""
    with path.open("wb") as file:
        for message in messages:
            body = message.SerializeToString()
            file.write(len(body).to_bytes(4, "big") + body)
