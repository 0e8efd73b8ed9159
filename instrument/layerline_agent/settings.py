"""What can be set about the agent, each with its variable, default, unit and one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from layerline.lines import as_text_or_json
from layerline.signals import TIME_UNITS_NS
from layerline.tags import HOST_WORDS
from layerline_agent.scrape import Target, targets

#: Reading more often than this costs more than it tells.
SHORTEST_NS = 20_000_000
#: Exporters look at their machine when they are asked.
SHORTEST_SCRAPE_NS = 10**9

_UNITS_NS = {**TIME_UNITS_NS, "h": 3600 * 10**9, "d": 24 * 3600 * 10**9}


def duration_ns(text: str) -> int:
    """``200ms``, ``1s`` or ``24h`` in nanoseconds. ValueError says what was expected and found."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zµ]+)", text.strip())
    if match is None or match[2] not in _UNITS_NS or float(match[1]) == 0:
        raise ValueError(f"expected a duration such as 200ms or 1s, found {text!r}")
    return round(float(match[1]) * _UNITS_NS[match[2]])


def size_bytes(text: str) -> int:
    """``256MB`` or ``64MiB`` in bytes. ValueError says what was expected and found."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG])(i?)B", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"expected a size such as 256MB or 64MiB, found {text!r}")
    unit: int = (1024 if match[3] else 1000) ** ("KMG".index(match[2].upper()) + 1)
    return round(float(match[1]) * unit)


def spool_folder(environment: Mapping[str, str]) -> Path | None:
    """Where what cannot be sent is kept; None for ``off``, or where there is no home folder to keep it in."""
    text = environment.get("LAYERLINE_SPOOL", "").strip()
    if text.lower() == "off":
        return None
    state = environment.get("XDG_STATE_HOME", "")
    try:
        if text:
            return Path(text).expanduser()
        return (Path(state) if state.startswith("/") else Path.home() / ".local/state") / "layerline/spool"
    except RuntimeError:  # a user without a home folder
        return None


def tag(text: str) -> tuple[str, str]:
    """``region:abc`` as ``("cloud.region", "abc")``. ValueError says what was expected and found."""
    key, colon, value = text.partition(":")
    if not colon or not value or not re.fullmatch(r"[\w.\-/]+", key):
        raise ValueError(f"expected key:value, for example region:eu-1, found {text!r}")
    return HOST_WORDS.get(key, key), value


def endpoint(text: str) -> str:
    """``http://127.0.0.1:4318`` without a slash at its end. ValueError says what was expected and found."""
    try:
        parts = urlsplit(text)
        reachable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        reachable = False
    if not reachable:
        raise ValueError(f"expected an address such as http://127.0.0.1:4318, found {text!r}")
    return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class Settings:
    """The agent's settings. An argument goes before its variable, the variable before the default."""

    endpoint: str = "http://127.0.0.1:4318"
    """LAYERLINE_ENDPOINT (``OTEL_EXPORTER_OTLP_ENDPOINT``): ``--endpoint`` goes before it."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """LAYERLINE_TOKEN (none): sent as ``Authorization: Bearer``."""
    tls_ca: str = ""
    """LAYERLINE_TLS_CA (the system's): certificates of authorities, in PEM, that the server's certificate is checked
    with."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """LAYERLINE_TAGS (none): attributes of everything the agent reports, as ``key:value``, separated by commas;
    ``--tag``, which may be repeated, goes before it. In the settings file a table: ``tags = {region = "eu-1"}``."""
    detectors: tuple[str, ...] = ()
    """LAYERLINE_DETECTORS (none): published resource detectors that are asked where this machine is (``aws_ec2``,
    ``azure_vm``, ``gcp_resource_detector`` …), separated by commas; a start waits for them for 2 s at most."""
    interval_ns: int = 1_000_000_000
    """LAYERLINE_INTERVAL (``1s``): how often everything is read, and sent; while nobody asks the server anything, it is
    sent every five seconds."""
    fine_ns: int = 200_000_000
    """LAYERLINE_FINE (``200ms``): how often stall counters are read; rounded so that it divides the interval."""
    log: str = "text"
    """LAYERLINE_LOG (``text``): what is reported on stderr as lines of ``text``, or of ``json``."""
    root: str = "/"
    """LAYERLINE_HOST_ROOT (``/``): where the host's file system is, when the agent itself runs in a container."""
    buffer_bytes: int = 32 * 2**20
    """How much may wait in memory, compressed, where there is no spool; the oldest is dropped first."""
    spool: Path | None = None
    """LAYERLINE_SPOOL (``~/.local/state/layerline/spool``): the folder that keeps what cannot be sent, made for its
    owner alone when it is needed; each agent of a machine needs its own; ``off`` keeps a little in memory only."""
    spool_bytes: int = 256 * 10**6
    """LAYERLINE_SPOOL_BYTES (``256MB``): the oldest is dropped when the spool is larger than this."""
    spool_ns: int = 24 * 3600 * 10**9
    """LAYERLINE_SPOOL_AGE (``24h``): what has waited for longer in the spool is dropped."""
    scrape: tuple[Target, ...] = ()
    """LAYERLINE_SCRAPE (none): pages of cAdvisor and node_exporter to read, separated by commas; ``NAME=URL`` says
    which machine a page is about, without a name it is the one of its address."""
    scrape_ns: int = 15 * 10**9
    """LAYERLINE_SCRAPE_INTERVAL (``15s``): how often those pages are read."""

    @classmethod
    def of(
        cls,
        endpoint_argument: str | None = None,
        tags: Sequence[str] = (),
        interval: str | None = None,
        fine: str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Settings:
        """The settings of these arguments and this environment. ValueError names the one that is wrong."""
        default = cls()

        def named(name: str, text: str) -> ValueError:
            return ValueError(f"{name}: {text}")

        where, address = next(
            (
                (name, text)
                for name, text in (
                    ("--endpoint", endpoint_argument),
                    ("LAYERLINE_ENDPOINT", environment.get("LAYERLINE_ENDPOINT")),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")),
                )
                if text
            ),
            ("", default.endpoint),
        )
        named_tags, interval_name, fine_name = "--tag", "--interval", "--fine"
        if not tags and (listed := environment.get("LAYERLINE_TAGS", "").strip()):
            named_tags, tags = "LAYERLINE_TAGS", [one.strip() for one in listed.split(",") if one.strip()]
        if interval is None and (interval := environment.get("LAYERLINE_INTERVAL") or None):
            interval_name = "LAYERLINE_INTERVAL"
        if fine is None and (fine := environment.get("LAYERLINE_FINE") or None):
            fine_name = "LAYERLINE_FINE"
        headers = dict(parse_env_headers(environment.get("OTEL_EXPORTER_OTLP_HEADERS", ""), liberal=True))
        if token := environment.get("LAYERLINE_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        try:
            address = endpoint(address)
        except ValueError as problem:
            raise named(where, str(problem)) from None
        try:
            tagged = dict(tag(text) for text in tags)
        except ValueError as problem:
            raise named(named_tags, str(problem)) from None
        try:
            interval_ns = duration_ns(interval) if interval is not None else default.interval_ns
        except ValueError as problem:
            raise named(interval_name, str(problem)) from None
        try:
            fine_ns = duration_ns(fine) if fine is not None else min(default.fine_ns, interval_ns)
        except ValueError as problem:
            raise named(fine_name, str(problem)) from None
        spool_bytes, spool_ns = default.spool_bytes, default.spool_ns
        try:
            if text := environment.get("LAYERLINE_SPOOL_BYTES"):
                spool_bytes = size_bytes(text)
        except ValueError as problem:
            raise named("LAYERLINE_SPOOL_BYTES", str(problem)) from None
        try:
            if text := environment.get("LAYERLINE_SPOOL_AGE"):
                spool_ns = duration_ns(text)
        except ValueError as problem:
            raise named("LAYERLINE_SPOOL_AGE", str(problem)) from None
        try:
            scrape = targets(environment.get("LAYERLINE_SCRAPE", ""))
        except ValueError as problem:
            raise named("LAYERLINE_SCRAPE", str(problem)) from None
        try:
            text = environment.get("LAYERLINE_SCRAPE_INTERVAL")
            scrape_ns = duration_ns(text) if text else default.scrape_ns
        except ValueError as problem:
            raise named("LAYERLINE_SCRAPE_INTERVAL", str(problem)) from None
        if scrape_ns < SHORTEST_SCRAPE_NS:
            raise named("LAYERLINE_SCRAPE_INTERVAL", f"expected at least 1s, found {text!r}")
        if interval_ns < SHORTEST_NS:
            raise named(interval_name, f"expected at least {SHORTEST_NS // 10**6}ms, found {interval!r}")
        if not SHORTEST_NS <= fine_ns <= interval_ns:
            raise named(fine_name, f"expected {SHORTEST_NS // 10**6}ms up to the interval, found {fine!r}")
        return cls(
            endpoint=address,
            headers=headers,
            tls_ca=environment.get("LAYERLINE_TLS_CA") or environment.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or "",
            tags=tagged,
            detectors=tuple(
                name for one in environment.get("LAYERLINE_DETECTORS", "").split(",") if (name := one.strip())
            ),
            interval_ns=interval_ns,
            fine_ns=fine_ns,
            root=environment.get("LAYERLINE_HOST_ROOT") or default.root,
            spool=spool_folder(environment),
            spool_bytes=spool_bytes,
            spool_ns=spool_ns,
            log=as_text_or_json(environment.get("LAYERLINE_LOG", "")),
            scrape=scrape,
            scrape_ns=scrape_ns,
        )

    @property
    def steps(self) -> int:
        """Fine ticks in one interval, at least 1."""
        return max(1, round(self.interval_ns / self.fine_ns))
