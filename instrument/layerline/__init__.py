"""Layerline's wrapper: OpenTelemetry spans, tagged with their container and with what the kernel did to their thread.

``layerline run -- CMD…`` needs no line of code; ``import layerline; layerline.start()`` does the same from within,
before the app makes its Flask or other objects. This module imports nothing until it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["__version__", "connect", "start"]

if TYPE_CHECKING:
    from layerline.notebook import Connection

    __version__: str
else:

    def __getattr__(name: str) -> str:
        """``__version__``, looked up only when somebody asks: this module imports nothing before that."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from layerline.version import UNKNOWN, own_version

        return own_version() or UNKNOWN


def start(*, endpoint: str | None = None, token: str | None = None, capture: str | None = None) -> None:
    """Start the wrapper in this process; call it as often as you like, only the first call counts.

    An app that already has a TracerProvider keeps it, with its exporters, sampler and resource; ours is added to it.
    Without one, OpenTelemetry is set up and the installed libraries are instrumented, as ``layerline run`` does. The
    arguments go before their variables (``LAYERLINE_ENDPOINT``, ``LAYERLINE_TOKEN``, ``LAYERLINE_CAPTURE``).

    Never raises: what fails is logged once, and the app runs on.
    """
    from layerline.environment import mend_own

    mend_own()  # before anything of OpenTelemetry is imported, which may fail over a variable
    from layerline.started import start as start_here

    start_here(endpoint=endpoint, token=token, capture=capture)


def connect(url: str | None = None, token: str | None = None) -> Connection:
    """Ask a server from a notebook: its tables as pandas or Arrow. Needs the extra ``notebook``.

    Without arguments ``LAYERLINE_SERVER`` and ``LAYERLINE_TOKEN`` say which server, else ``http://127.0.0.1:4318``.
    SQL is off on a server that has no token. ``CannotAsk`` where it does not answer.
    """
    from layerline.notebook import Connection

    return Connection.to(url, token)
