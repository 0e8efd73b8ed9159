"""What the demo asks the server: the verdict of one request, once it is settled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import requests

from layerline_api.demo.place import DemoError


@dataclass(frozen=True, slots=True)
class Part:
    """One cause's share of a request, as the API says it (section 7.3)."""

    cause: str
    service: str
    entity_type: str
    entity_id: str
    entity_name: str
    lost_ns: int
    low_ns: int
    high_ns: int
    usual_ns: int
    usual_low_ns: int
    usual_high_ns: int
    excess_ns: int
    by: tuple[str, ...]
    """Ids of the neighbouring containers, worst first. The machine's own processes may be named too; they are left out
    here, because a demo cannot know what else runs on the machine."""

    @property
    def excess_range_ns(self) -> tuple[int, int]:
        """At least and at most; the usual is as uncertain as what it is the mean of."""
        return max(0, self.low_ns - self.usual_high_ns), max(0, self.high_ns - self.usual_low_ns)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A request's ledger and whom it blames first."""

    trace_id: str
    duration_ns: int
    usual_ns: int | None
    unexplained_ns: int
    parts: tuple[Part, ...]
    first: Part | None
    """The part of the first culprit; None if there is no culprit."""
    settled: bool


def read(body: Mapping[str, Any]) -> Verdict:
    """A verdict from its JSON. KeyError names what is missing."""
    parts = tuple(
        Part(
            cause=part["cause"],
            service=part["service"],
            entity_type=part["entity"]["type"],
            entity_id=part["entity"]["id"],
            entity_name=part["entity"]["name"],
            lost_ns=part["lost_ns"],
            low_ns=part["low_ns"],
            high_ns=part["high_ns"],
            usual_ns=part["usual_ns"] or 0,
            usual_low_ns=part["usual_low_ns"] or 0,
            usual_high_ns=part["usual_high_ns"] or 0,
            excess_ns=part["lost_ns"] if part["excess_ns"] is None else part["excess_ns"],
            by=tuple(
                neighbour["entity"]["id"] for neighbour in part["by"] if neighbour["entity"]["type"] == "container"
            ),
        )
        for part in body["parts"]
    )
    culprits = body["culprits"]
    named = (culprits[0]["cause"], culprits[0]["entity"].get("id")) if culprits else None
    # Two services may share cause and entity (a host); the culprit is the part with the most excess.
    first = max((p for p in parts if (p.cause, p.entity_id) == named), key=lambda p: p.excess_ns, default=None)
    return Verdict(
        trace_id=body["trace_id"],
        duration_ns=body["duration_ns"],
        usual_ns=body["usual_ns"],
        unexplained_ns=body["unexplained_ns"],
        parts=parts,
        first=first,
        settled=body["settled"],
    )


class Ask:
    """A client of the server's API."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: the server is this machine's own
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def body(self, path: str) -> dict[str, Any] | None:
        """GET under ``/api/v1``; None where there is nothing (404). DemoError on everything else."""
        try:
            answer = self._session.get(f"{self.url}/api/v1/{path}", timeout=30)
        except requests.RequestException as problem:
            raise DemoError(f"the server does not answer: {problem}") from problem
        if answer.status_code == 404:
            return None
        if not answer.ok:
            raise DemoError(f"GET /api/v1/{path} was answered with {answer.status_code}: {answer.text[:300]}")
        body: dict[str, Any] = answer.json()
        return body

    def verdict(self, trace_id: str, timeout_s: float, settled: bool = True) -> Verdict | None:
        """The verdict of a trace as it is once it is there (and settled), or at the timeout; None if unknown then."""
        deadline = time.monotonic() + timeout_s
        while True:
            body = self.body(f"requests/{trace_id}")
            verdict = None if body is None else read(body)
            if (verdict is not None and (verdict.settled or not settled)) or time.monotonic() >= deadline:
                return verdict
            time.sleep(0.3)
