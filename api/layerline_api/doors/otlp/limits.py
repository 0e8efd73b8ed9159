"""How much is kept of one span or log record. What goes beyond is counted (``LeftOut``) and not kept.

The counts are those of OpenTelemetry's SDKs where they have one (specification, "Span Limits": 128 attributes, events
and links of a span, 128 attributes of an event and a link); SDKs do not limit the length of a value unless asked to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from layerline_correlator.store.model import LeftOut

#: Attributes of a span, an event, a link or a log record.
ATTRIBUTES: Final = 128
EVENTS: Final = 128
LINKS: Final = 128
#: Characters of a value, of a stack trace and of a message; our own attributes (samples) may be longer.
VALUE_CHARS: Final = 4_096
STACKTRACE_CHARS: Final = 16_384
OWN_CHARS: Final = 65_536
TRACE_STATE_CHARS: Final = 512  # W3C Trace Context: vendors should propagate at least that many
#: Characters of all events of a span, and of all its links: what one span may take of the store.
TOGETHER_CHARS: Final = 131_072

OWN: Final = "layerline."

#: What the ledger and errors read of a span stays, however many attributes there are.
NEEDED: Final = frozenset(
    {
        "server.address", "server.port", "net.peer.name", "net.peer.port", "url.full", "http.url", "peer.service",
        "http.request.method", "http.method", "http.route", "http.response.status_code", "http.status_code",
        "rpc.system", "rpc.system.name", "rpc.grpc.status_code", "rpc.response.status_code", "error.type",
        "messaging.system", "db.system.name", "db.system", "db.query.text", "db.statement", "db.query.summary",
        "db.operation.name", "db.operation", "db.collection.name", "db.sql.table",
        "network.local.address", "net.sock.host.addr", "net.host.ip",
        "exception.type", "exception.message", "exception.stacktrace",
    }
)  # fmt: skip


class Cut(NamedTuple):
    """A text within its limit, and whether it was longer."""

    text: str
    shortened: bool


def cut(text: str, name: str = "") -> Cut:
    """The text as it is kept: its beginning, of a stack trace its beginning and its end."""
    if len(text) <= VALUE_CHARS:  # nearly always
        return Cut(text, False)
    if name == "exception.stacktrace":
        if len(text) <= STACKTRACE_CHARS:
            return Cut(text, False)
        half = STACKTRACE_CHARS // 2 - 40
        left = len(text) - 2 * half
        return Cut(f"{text[:half]}\n… {left:,} characters left out …\n{text[-half:]}", True)
    most = OWN_CHARS if name.startswith(OWN) else VALUE_CHARS
    return Cut(text, False) if len(text) <= most else Cut(f"{text[: most - 1]}…", True)


class Counts:
    """Counts what is left out of one span or log record."""

    __slots__ = ("attributes", "events", "links", "shortened")

    def __init__(self, attributes: int = 0, events: int = 0, links: int = 0) -> None:
        """Begin with what the sender says it has dropped."""
        self.attributes, self.events, self.links = attributes, events, links
        self.shortened = 0

    def total(self) -> LeftOut | None:
        """None where everything is there."""
        total = LeftOut(self.attributes, self.events, self.links, self.shortened)
        return total if any(total) else None
