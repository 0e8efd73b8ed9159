"""The causes, one file each; this list is the folder's.

The header of a cause's ``.sql`` file is its documentation: title, what it needs, what it means, what it is easily
mistaken for, what to try, what to enable where it cannot be seen, and where its figures come from. The body selects
claims on pieces: ``piece_no, pool, entity_type, entity_id, lost_ns, low_ns, high_ns`` and, where they apply,
``inferred, neighbours, because, place``. The pools are ``cpu``, ``wait``, ``off`` and ``queued`` (``pieces.sql``); a
claim takes at most what earlier causes left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_REQUIRED = ("title", "layer", "order", "needs", "means", "mistaken for", "try", "enable", "source")
_OPTIONAL = ("prepare", "applies", "enable elsewhere")
#: What a cause may need, and how to say that it is missing.
FACTS = {
    "layerline.account": "what its threads did",
    "layerline.container.throttled_ns": "its container's throttled time",
    "layerline.container.usage_ns": "its container's CPU time",
    "layerline.thread.blkio_ns": "block-I/O delay of its threads",
    "layerline.container.refaults": "what its container read again for want of memory",
    "layerline.samples": "what its threads waited for",
    "layerline.accept_wait_ns": "when the request arrived in the kernel",
    "container events": "the starts and ends of containers",
    "container.cpu.time": "its container's CPU time",
    "container.cpu.throttled": "its container's throttled time",
    "container.cpu.pressure": "CPU pressure of its container",
    "container.memory.refaults": "what its container read again for want of memory",
    "container.network.tcp.retransmits": "TCP segments that its container sent again",
    "container.io.pressure": "I/O pressure of its container",
    "container.disk.io": "what its container read and wrote",
    "system.cpu.time": "CPU time of the machine",
    "system.network.io": "traffic of the machine",
    "system.disk.io_time": "busy time of the disks",
    "system.io.pressure": "I/O pressure of the machine",
}
LAYERS = ("app", "dependency", "network", "container", "host")


@dataclass(frozen=True, slots=True)
class Cause:
    """What went wrong, and how to tell."""

    name: str  # "container.cpu_throttled"
    layer: str
    title: str  # says what happened, as the end of "it was …": "held back by its CPU limit"
    order: int  # who takes first where two fit
    needs: tuple[tuple[str, ...], ...]  # all of them; one alternative of each
    means: str
    mistaken_for: str
    try_: str
    enable: str
    source: str
    prepare: tuple[str, ...]  # files to run before, in this order, once a batch
    applies: str | None  # "container": only to what runs in one
    sql: str
    enable_elsewhere: str | None = None
    """What to enable where somebody else's collector reads the containers, if that is something else."""

    def to_enable(self, foreign_readings: bool) -> str:
        """The one thing to enable where it cannot be seen."""
        return (self.enable_elsewhere if foreign_readings else None) or self.enable


def parse(name: str, text: str) -> Cause:
    """A cause from its file. ValueError names the file, what was expected and what was found."""
    header: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"-- ([a-z][a-z ]*): (.+)", line)
        if match is None:
            break
        header[match[1]] = match[2]
    missing = [key for key in _REQUIRED if key not in header]
    unknown = [key for key in header if key not in (*_REQUIRED, *_OPTIONAL)]
    if missing or unknown:
        raise ValueError(
            f"cause {name}: expected the headers {', '.join(_REQUIRED)}; missing {missing}, unknown {unknown}"
        )
    if header["layer"] not in LAYERS or not name.startswith(f"{header['layer']}."):
        raise ValueError(
            f"cause {name}: expected its layer {header['layer']!r} to be one of {LAYERS} and to begin its name"
        )
    needs = tuple(tuple(fact.strip() for fact in need.split("|")) for need in header["needs"].split(","))
    if unheard := {fact for need in needs for fact in need} - set(FACTS):
        raise ValueError(f"cause {name}: needs {unheard}; expected some of {', '.join(FACTS)}")
    return Cause(
        name=name,
        layer=header["layer"],
        title=header["title"],
        order=int(header["order"]),
        needs=needs,
        means=header["means"],
        mistaken_for=header["mistaken for"],
        try_=header["try"],
        enable=header["enable"],
        source=header["source"],
        prepare=tuple(header.get("prepare", "").split()),
        applies=header.get("applies"),
        sql=text,
        enable_elsewhere=header.get("enable elsewhere"),
    )


@cache
def all_causes() -> tuple[Cause, ...]:
    """Every cause of this folder, in the order in which they take."""
    causes = []
    for file in files(__package__).iterdir():
        if file.name.endswith(".sql"):
            layer, _, rest = file.name.removesuffix(".sql").partition("_")
            causes.append(parse(f"{layer}.{rest}", file.read_text(encoding="utf-8")))
    return tuple(sorted(causes, key=lambda cause: (cause.order, cause.name)))


def by_name(name: str) -> Cause:
    """The cause of that name. KeyError when there is none."""
    return {cause.name: cause for cause in all_causes()}[name]
