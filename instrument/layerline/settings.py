"""The wrapper's settings: each field with its variable, unit, default and one sentence.

Precedence: argument of ``layerline.start()``, then variable, then default. OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_*``, ``OTEL_BSP_*``, ``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES`` …) are honoured by the
SDK and are not repeated here, save the one that ours falls back to.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from layerline import guard

#: Where spans go when nothing says otherwise: a Layerline server on this machine.
DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"

_LONGEST_EXIT_S: Final = 3600

_UNIT_NS: Final = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?) ?(us|ms|s|m)")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the wrapper is told from outside. A field ``endpoint`` is the variable ``LAYERLINE_ENDPOINT``."""

    endpoint: str = ""
    """LAYERLINE_ENDPOINT (``OTEL_EXPORTER_OTLP_ENDPOINT``, else ``http://127.0.0.1:4318``): where data is sent;
    where both are set and differ, spans go to both."""
    token: str = ""
    """LAYERLINE_TOKEN (none): sent as ``Authorization: Bearer``."""
    tls_ca: str = ""
    """LAYERLINE_TLS_CA (the system's): certificates of authorities, in PEM, that the server's certificate is checked
    with."""
    capture: str = ""
    """LAYERLINE_CAPTURE (none): attributes that may carry secrets and are sent all the same: any of ``url.query``,
    ``db.query.text``, ``http.header``, or ``all``."""
    container_id: str = ""
    """LAYERLINE_CONTAINER_ID (none): the container's id, 64 hex digits, where the kernel's files do not tell it."""
    exit_timeout: str = "2"
    """LAYERLINE_EXIT_TIMEOUT (``2``): the longest, in seconds, that sending the last spans may hold up the end of the
    process."""

    fast: str = "on"
    """LAYERLINE_FAST (``on``): measure and encode spans by the C extension, where it was built; or ``off``: in
    Python, which costs more and says the same. Read when the wrapper is imported."""

    hints: str = "on"
    """LAYERLINE_HINTS (``on``): at the start, name installed libraries that nothing instruments, and the command that
    changes it; or ``off``."""

    share_context: str = "off"
    """LAYERLINE_SHARE_CONTEXT (``off``): ``on`` lets profilers on this machine, such as OpenTelemetry's eBPF profiler,
    read the process's resource and the current span of each thread (OTEP 4719 and 4947); needs the C extension."""

    watch: str = "50ms"
    """LAYERLINE_WATCH (``50ms``): threads whose request has been open for longer are looked at 50 times a second, to
    see what they do; a number with ``us``, ``ms``, ``s`` or ``m``, or ``off``."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, **arguments: str | None) -> Settings:
        """The settings in force: ``arguments`` that are not None, then variables, then defaults."""
        values: dict[str, str] = {}
        for each in fields(cls):
            given = arguments.get(each.name)
            values[each.name] = (
                given if given is not None else environ.get(f"LAYERLINE_{each.name.upper()}", str(each.default))
            )
        if not values["token"].isprintable():
            guard.once("token", "LAYERLINE_TOKEN holds characters that no header can carry, and is ignored")
            values["token"] = ""
        return cls(**values)

    @property
    def exit_timeout_s(self) -> float:
        """``exit_timeout`` as seconds; a value that is no number counts as the default."""
        try:
            seconds = float(self.exit_timeout)
        except ValueError:
            seconds = math.nan
        if seconds < 0:
            return 0.0
        if not seconds <= _LONGEST_EXIT_S:
            guard.once(
                "exit_timeout",
                "LAYERLINE_EXIT_TIMEOUT: expected seconds from 0 to %d; found %r: 2",
                _LONGEST_EXIT_S,
                self.exit_timeout,
            )
            return 2.0
        return seconds

    @property
    def watch_ns(self) -> int | None:
        """``watch`` in nanoseconds, None for ``off``; what is no duration counts as the default and is logged once."""
        text = self.watch.strip().lower()
        if text == "off":
            return None
        match = _DURATION.fullmatch(text)
        if match is None or len(text) > 20:
            guard.once("watch", "LAYERLINE_WATCH: expected a duration like 50ms, or off; found %.40r: 50ms", self.watch)
            return 50_000_000
        return int(float(match[1]) * _UNIT_NS[match[2]])
