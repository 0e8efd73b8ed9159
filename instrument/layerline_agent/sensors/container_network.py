"""Network of a container: what it received and transmitted on its own interfaces, and what TCP had to send again.

``network`` is the ``net`` directory of one of its processes; a container on the host's network has none.
"""

from __future__ import annotations

from layerline_agent.network import interfaces, needless_retransmits, retransmits
from layerline_agent.sensor import Sensor, Source

SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("network/dev",), interfaces("container.network")),
        Source(("network/snmp",), retransmits("container.network.tcp.retransmits")),
        Source(("network/netstat",), needless_retransmits("container.network.tcp.needless_retransmits")),
    ),
)
