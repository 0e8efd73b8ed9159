"""How long a request had lain in the kernel before its handler began.

Source: ``tcpi_last_data_recv`` of ``TCP_INFO`` (``linux/tcp.h``, u32 at offset 52, milliseconds since the socket last
received data), asked of the accepted socket as the entry span starts. It is of this request on a kept-alive
connection too, and of the body's end if the kernel had all of it. It steps with the kernel's tick (4 ms at 250 Hz),
so a wait below 10 ms is 0.

The servers hand their socket over (gunicorn, werkzeug and uvicorn, patched on their import); another server, a Unix
socket or a kernel without the figure leaves it absent. A note is for its own thread, or its own task on an event loop,
is used once, and for one second.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
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
#: The same for a task: a list, emptied when it is used, as a task's children have copies of the variable.
_task: ContextVar[list[tuple[Any, int]]] = ContextVar("layerline_accepted")

try:
    _tasks: Any = import_module("layerline.tasks")
except ImportError:  # who held the loop is not known
    _tasks = None


def note(accepted: Any) -> None:
    """This thread is about to handle a request that came in on that socket."""
    _here.noted = (accepted, time_ns())


def note_task(accepted: Any) -> None:
    """This task is about to handle a request that came in on that socket."""
    _task.set([(accepted, time_ns())])


def arrival() -> int | None:
    """When the last bytes of the request noted for this task or thread came in (ns, UTC); None if unknown.

    Uses the note up.
    """
    of_task = _task.get(None)
    noted = of_task.pop() if of_task else getattr(_here, "noted", None)
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


def held(from_ns: int, to_ns: int) -> tuple[int, str] | None:
    """How much of a stretch (ns, UTC) other tasks held this thread's event loop, and who did longest (``""``: nobody).

    None where the loop's tasks are not seen.
    """
    if _tasks is None or not _tasks.installed():
        return None
    found: tuple[int, str] = _tasks.held(from_ns, to_ns)
    return found


def uvicorn(module: ModuleType) -> None:
    """A hook for the import of a protocol of uvicorn's: note the socket in the task that runs the app.

    ``RequestResponseCycle.run_asgi(app)`` is called where the bytes are read, before there is a task, and the task may
    be given an empty context: so it is the app that is wrapped, not the method's coroutine.
    """

    def wrapper(wrapped: Any, cycle: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if len(arguments) != 1 or named:
            return wrapped(*arguments, **named)
        (app,) = arguments

        def noted(*given: Any) -> Any:
            try:
                note_task(cycle.transport.get_extra_info("socket"))
            except Exception:
                guard.failed("accept.note")
            return app(*given)

        return wrapped(noted)

    try:
        wrapt.wrap_function_wrapper(module, "RequestResponseCycle.run_asgi", wrapper)
    except Exception:
        guard.failed("accept.hook")


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
    for protocol in ("h11_impl", "httptools_impl"):
        wrapt.register_post_import_hook(uvicorn, f"uvicorn.protocols.http.{protocol}")
