"""Where this machine is, as its cloud's metadata service says: asked by the published resource detectors.

Detectors are entry points of OpenTelemetry (``opentelemetry_resource_detector``), such as ``aws_ec2`` of
``opentelemetry-sdk-extension-aws``, ``azure_vm`` of ``opentelemetry-resource-detector-azure`` or
``gcp_resource_detector`` of ``opentelemetry-resourcedetector-gcp``. They are asked only if a setting names them,
because they open connections, and all together have no more than ``WITHIN_S``: where nobody answers, a start takes no
longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

from layerline.attributes import INSTANCE_ID

#: How long a start waits for all of them.
WITHIN_S: Final = 2.0
#: What is taken of what they say, and under which name. The provider's id of the machine is not the machine id.
TAKEN: Final = {
    **{name: name for name in ("cloud.provider", "cloud.account.id", "cloud.region", "cloud.availability_zone")},
    "host.type": "host.type",
    "host.id": INSTANCE_ID,
}

#: What a detector says: the attributes of its resource.
Ask = Callable[[], Mapping[str, Any]]


def detect(
    names: Sequence[str],
    say: Callable[[str], None],
    installed: Callable[[str], Ask | None] | None = None,
    within_s: float = WITHIN_S,
) -> dict[str, str]:
    """What the detectors of these names say of the machine; of one that cannot tell, ``say`` hears why."""
    find = installed or _installed
    answers: dict[str, Mapping[str, Any] | Exception] = {}
    threads: dict[str, threading.Thread] = {}
    for name in dict.fromkeys(names):
        ask = find(name)
        if ask is None:
            say(f"resource detector {name} is not installed: nothing is asked")
            continue
        threads[name] = threading.Thread(
            target=_answer, args=(name, ask, answers), name=f"layerline-detector-{name}", daemon=True
        )
        threads[name].start()
    found: dict[str, str] = {}
    until = time.monotonic() + within_s
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        answer = answers.get(name)
        if answer is None:
            say(f"resource detector {name} did not answer within {within_s:g} s: its tags are missing")
        elif isinstance(answer, Exception):
            say(f"resource detector {name} failed ({type(answer).__name__}: {answer}): its tags are missing")
        elif not (taken := {TAKEN[key]: str(value) for key, value in answer.items() if key in TAKEN and value}):
            say(f"resource detector {name} says nothing of this machine: it is not in that cloud, or nobody answered")
        else:
            found = taken | found  # the first that says something is heard
    return found


def _answer(name: str, ask: Ask, answers: dict[str, Mapping[str, Any] | Exception]) -> None:
    try:
        answers[name] = dict(ask())
    except Exception as problem:  # whatever a detector does, the agent reads its machine
        answers[name] = problem


def _installed(name: str) -> Ask | None:
    """The detector of that name; None where it is not installed."""
    found = next(iter(entry_points(group="opentelemetry_resource_detector", name=name)), None)
    if found is None:
        return None

    def ask() -> Mapping[str, Any]:
        attributes: Mapping[str, Any] = found.load()().detect().attributes
        return attributes

    return ask
