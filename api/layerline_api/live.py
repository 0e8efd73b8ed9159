"""Settings of a running server that change when its file is read anew (SIGHUP).

Doors and routes hold one ``Live`` in the place of the settings and read a field when they need it; so a token that is
revoked is refused from the next request on, and no connection is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from layerline.hangup import differences
from layerline_api.doors.tls import Certificate
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

#: Fields that hold from the moment the file was read; all others from the next start on.
SERVER: Final = ("token", "tokens", "notify", "capture")
STORE: Final = ("retain_ns", "retain_bytes", "hot_ns", "rollup", "budget_ratio")
_NAMES: Final = {
    "retain_ns": "retain", "hot_ns": "hot", "budget_ratio": "budget", "slow_ns": "slow", "memory_bytes": "memory",
}  # fmt: skip

_log = logging.getLogger("layerline.settings")


class Live:
    """The settings as they are now; every field is read through to them."""

    def __init__(self, now: ServerSettings) -> None:
        self.now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)

    @classmethod
    def of(cls, settings: ServerSettings) -> tuple[ServerSettings, Live]:
        """The same object twice: for those who read it, and for the one that changes it."""
        live = cls(settings)
        return cast(ServerSettings, live), live


class Reload:
    """Reads the settings anew, and changes what can be changed while the server runs."""

    def __init__(
        self,
        live: Live,
        settings: Settings,
        correlator: Correlator,
        certificate: Certificate | None,
        read: Callable[[], tuple[Settings, ServerSettings]],
    ) -> None:
        self._live, self._settings, self._correlator = live, settings, correlator
        self._certificate, self._read = certificate, read

    def __call__(self) -> str:
        """What was changed, in one line. Where the settings are wrong, all stays as it was."""
        before = self._live.now
        try:
            settings, server = self._read()
            server = replace(server, loopback_only=before.loopback_only)
            if before.all_tokens and not server.all_tokens and not before.loopback_only:
                raise ValueError("no token is left, and the server listens beyond loopback")
            if self._certificate is not None:
                self._certificate.load()
        except ValueError as problem:
            return f"the settings are as they were: {problem}"
        self._live.now = replace(before, **{name: getattr(server, name) for name in SERVER})
        changed = replace(self._settings, **{name: getattr(settings, name) for name in STORE})
        self._correlator.change(changed)
        done = [*differences(before, self._live.now), *differences(self._settings, changed, _NAMES)]
        later = [*differences(self._live.now, server), *differences(changed, settings, _NAMES)]
        self._settings = changed
        said = f"settings read anew; changed: {', '.join(done) or 'nothing'}"
        if self._certificate is not None:
            said += "; new connections get the certificate as it is now"
        return said + (f"; from the next start on: {', '.join(later)}" if later else "")
