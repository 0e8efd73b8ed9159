"""The words by which people ask for tags, and the attributes they stand for (design, section 7.5).

Any other word is the attribute or Docker label of that name. No third-party import: agent and correlator share this.
"""

from __future__ import annotations

from typing import Final

#: What a host is asked for by; its containers inherit it.
HOST_WORDS: Final = {
    "host": "host.name",
    "region": "cloud.region",
    "zone": "cloud.availability_zone",
    "instance_type": "host.type",
}
#: Every word.
TAG_WORDS: Final = {
    "image": "container.image.name",
    "version": "container.image.tags",
    "container": "container.name",
    "service": "service.name",
    **HOST_WORDS,
}
