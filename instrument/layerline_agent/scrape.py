"""Reads cAdvisor and node_exporter where they run already, as a Prometheus server would (``LAYERLINE_SCRAPE``).

The agent's own sensors need no exporter; this is for machines that have one and no agent. Only metrics that the signal
catalogue knows are parsed and sent: a page of cAdvisor has hundreds of others. What is sent has the shape of the
Collector's Prometheus receiver (``layerline.aliases``), so the server reads both alike: names and labels as scraped,
no unit, the target as the resource. A target on a loopback address is this machine; another is the machine that
``NAME=URL`` names, or its address.

Source: Prometheus' "Exposition formats", text format 0.0.4, parsed by ``prometheus-client``.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from layerline.aliases import CADVISOR, NODE_EXPORTER
from layerline.session import printable
from layerline.signals import SIGNALS, Kind
from layerline_agent.encode import Value, attribute, resource
from layerline_agent.outbox import METRICS
from layerline_agent.saying import say

#: How long a target may take to accept and to answer, in seconds. Of a page no more is read than this.
TIMEOUT_S: Final = (3.05, 10.0)
MOST_BYTES: Final = 64 * 2**20
SCOPE: Final = "layerline.scrape"

#: The metrics that mean a signal, and whether that signal is a counter.
KNOWN: Final[Mapping[str, bool]] = {
    alias.name: signal.kind is Kind.COUNTER
    for signal in SIGNALS
    for alias in signal.aliases
    if alias.source in (CADVISOR, NODE_EXPORTER)
}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Target:
    """A page to read, and which machine it tells of."""

    url: str
    machine: str = ""
    """``host.name`` where the setting names one."""

    @property
    def host(self) -> str:
        """The host that its address names."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_here(self) -> bool:
        """Whether its address is this machine's own."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def targets(text: str) -> tuple[Target, ...]:
    """``http://127.0.0.1:8080/metrics, vm-2=http://10.0.0.7:9100``. ValueError says what was expected and found."""
    return tuple(_target(one.strip()) for one in text.split(",") if one.strip())


def _target(text: str) -> Target:
    machine, _, url = text.rpartition("=") if re.match(r"[\w.-]+=", text) else ("", "", text)
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"expected an address such as http://127.0.0.1:8080/metrics, found {text!r}")
    return Target(url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/metrics", machine)


class Scraper:
    """Reads each target once an interval, in a thread of its own, until it is closed."""

    def __init__(
        self,
        wanted: Sequence[Target],
        interval_ns: int,
        here: Mapping[str, Value],
        put: Callable[[str, bytes, int], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """``here``: what the agent says of its own machine."""
        self._targets = wanted
        self._interval_s = interval_ns / 1e9
        # The boot id is how the server knows our own sensors, whose counters say when they began; these do not.
        self._here = {key: value for key, value in here.items() if key != "layerline.boot_id"}
        self._put = put
        self._clock = clock
        self._ended = threading.Event()
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="layerline-scrape", daemon=True)

    def start(self) -> None:
        """Begin, where there is anything to read."""
        if self._targets:
            self._thread.start()

    def close(self) -> None:
        """End. What is being read is left."""
        self._ended.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            for target in self._targets:
                self.scrape(target)
            due = max(due + self._interval_s, time.monotonic())
            self._ended.wait(due - time.monotonic())

    def scrape(self, target: Target) -> None:
        """Read one target and send what it says. A target that fails is said once, until it answers again."""
        at_ns = self._clock()
        try:
            message, points = encoded(families(_lines(target.url)), self._resource(target), at_ns)
            if not points:
                raise ValueError("expected metrics of cAdvisor or node_exporter (`layerline docs signals`), found none")
        except Exception as problem:  # whatever it answers: it costs this target's readings and nothing more
            if target.url not in self._failing:
                self._failing.add(target.url)
                say(f"cannot read {target.url}: {printable(str(problem)) or type(problem).__name__}")
            return
        if target.url in self._failing:
            self._failing.discard(target.url)
            say(f"{target.url} answers again")
        self._put(METRICS, message, points)

    def _resource(self, target: Target) -> Mapping[str, Value]:
        parts = urlsplit(target.url)
        scraped: dict[str, Value] = {
            "service.name": "scrape",
            "service.instance.id": parts.netloc,
            "url.scheme": parts.scheme,
        }
        if target.is_here or target.machine == self._here.get("host.name"):
            return {**self._here, **scraped}
        if target.machine:
            return {**scraped, "host.name": target.machine}
        return {**scraped, "server.address": target.host}


def _lines(url: str) -> Iterator[str]:
    """The lines of a page. OSError (``requests``') where it cannot be read, ValueError where it is none."""
    with closing(requests.Session()) as session:
        session.trust_env = False  # a target is inside; a proxy, or a password in ~/.netrc, is for what is outside
        headers = {"Accept": "text/plain; version=0.0.4", "User-Agent": "layerline-agent"}
        answer = session.get(url, headers=headers, timeout=TIMEOUT_S, stream=True, allow_redirects=False)
        with closing(answer):
            if answer.status_code != 200:
                raise ValueError(f"expected 200, found {answer.status_code} {answer.reason}")
            ends, size = time.monotonic() + TIMEOUT_S[1], 0
            for line in answer.iter_lines(65536):
                size += len(line) + 1
                if size > MOST_BYTES or time.monotonic() > ends:
                    raise ValueError(f"expected at most {MOST_BYTES >> 20} MiB within {TIMEOUT_S[1]:g} s, found more")
                yield line.decode("utf-8", "replace")


def families(lines: Iterable[str]) -> Iterator[Metric]:
    """The metrics that are signals; lines of others are not parsed. ValueError where a line is none."""
    kept = []
    for line in lines:
        name = line[7:] if line.startswith("# TYPE ") else line
        match = _NAME.match(name)
        if match and (match[0] in KNOWN or f"{match[0]}_total" in KNOWN):
            kept.append(line)
    yield from text_string_to_metric_families("\n".join(kept) + "\n")


def encoded(found: Iterable[Metric], target: Mapping[str, Value], at_ns: int) -> tuple[bytes, int]:
    """The request that sends these metrics, and how many points it has.

    A sample's own time goes before that of reading: cAdvisor looks at its containers when it likes.
    """
    request, count = ExportMetricsServiceRequest(), 0
    sent = request.resource_metrics.add()
    sent.resource.CopyFrom(resource(target))
    scope = sent.scope_metrics.add()
    scope.scope.name = SCOPE
    for family in found:
        for name in dict.fromkeys(sample.name for sample in family.samples if sample.name in KNOWN):
            metric = scope.metrics.add(name=name)
            counter = family.type == "counter" or (family.type == "unknown" and KNOWN[name])
            if counter:
                metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                metric.sum.is_monotonic = True
            points = metric.sum.data_points if counter else metric.gauge.data_points
            for sample in family.samples:
                if sample.name == name and sample.value == sample.value:  # NaN: nothing was measured
                    points.add(
                        time_unix_nano=round(float(sample.timestamp) * 1000) * 10**6 if sample.timestamp else at_ns,
                        as_double=sample.value,
                        attributes=[attribute(key, value) for key, value in sample.labels.items()],
                    )
                    count += 1
    return request.SerializeToString(), count
