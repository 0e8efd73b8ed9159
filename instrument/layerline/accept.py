"""How long a request had lain in the kernel before its handler began.

Source: ``tcpi_last_data_recv`` of ``TCP_INFO`` (``linux/tcp.h``, u32 at offset 52, milliseconds since the socket last
received data), asked of the accepted socket as the entry span starts. It is of this request on a kept-alive
connection too, and of the body's end if the kernel had all of it. It steps with the kernel's tick (4 ms at 250 Hz),
so a wait below 10 ms is 0.

The servers hand their socket over (gunicorn and werkzeug, patched on their import); another server, a Unix socket
or a kernel without the figure leaves it absent. A note is for its own thread, is used once, and for one second.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from time import time_ns
from types import ModuleType
from typing import Any, Final

import wrapt

from layerline import guard

_LAST_DATA_RECEIVED: Final = 52
#: Below this the kernel's clock cannot tell a wait from none (ns).
SHORTEST_NS: Final = 10_000_000
_STALE_NS: Final = 1_000_000_000

_here = threading.local()


def note(accepted: Any) -> None:
    """This thread is about to handle a request that came in on that socket."""
    _here.noted = (accepted, time_ns())


def arrival() -> int | None:
    """When the last bytes of the request noted on this thread came in (ns, UTC); None if unknown. Uses the note up."""
    noted = getattr(_here, "noted", None)
    if noted is None:
        return None
    _here.noted = None
    accepted, at = noted
    if not 0 <= time_ns() - at <= _STALE_NS:
        return None
    try:
        raw = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    except (OSError, AttributeError):
        return None
    now = time_ns()
    if len(raw) < _LAST_DATA_RECEIVED + 4:
        return None
    return now - int.from_bytes(raw[_LAST_DATA_RECEIVED:], sys.byteorder) * 1_000_000


def before(function: str, which: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Callable[[ModuleType], None]:
    """A hook for a module's import: note the socket each time before ``function`` of the module runs."""

    def wrapper(wrapped: Any, instance: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            note(which(instance, arguments, named))
        except Exception:
            guard.failed("accept.note")
        return wrapped(*arguments, **named)

    def hook(module: ModuleType) -> None:
        try:
            wrapt.wrap_function_wrapper(module, function, wrapper)
        except Exception:
            guard.failed("accept.hook")

    return hook


_installed = False


def install() -> None:
    """Have the servers hand over their sockets, as soon as they are imported. Once a process."""
    global _installed
    if _installed:
        return
    _installed = True
    wrapt.register_post_import_hook(
        before("create", lambda _, given, named: given[1] if len(given) > 1 else named.get("sock")),
        "gunicorn.http.wsgi",
    )
    wrapt.register_post_import_hook(
        before("WSGIRequestHandler.run_wsgi", lambda handler, given, named: handler.connection), "werkzeug.serving"
    )
