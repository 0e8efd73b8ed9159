"""The coarse part of the lab: real faults, seen as other people's telemetry shows them.

A shop of five services runs in containers with plain OpenTelemetry (no account, no attribute of ours). A recorder keeps
its spans, and our agent's readings of every second, as OTLP (``record``). From these ``published`` makes what a
Collector would have sent: readings every 15 or 60 s in cAdvisor's or docker_stats' words, without counters of
throttling. Each of the four is imported into a store of its own and judged (``judge``): windows with a fault and quiet
ones, by ``why`` over the window and by the incidents that were found; ``floors`` says what two simple rules would have
said.

A kept recording (``--keep``) is a folder with ``traces.binpb``, ``metrics.binpb`` and ``labels.json``; ``cases`` in it
has the same for each of the four. ``layerline import FOLDER/cases/NAME/*.binpb`` reads any of them.
"""
