"""Recorded data: files of other tools become a store of their own, and are asked as if it were live.

``commands/recorded`` → ``sources`` (what is to be read, and by which reader) → a reader (``otlp_files``, ``jaeger``,
``rcaeval``, ``clickhouse``) → ``gathered`` (rows, and what could not be read) → ``importing`` (into the store,
restartable) → ``layerline_correlator.lived``.

A reader is a generator over one file. It puts rows into a ``Gathered`` and yields the ``Place`` where reading would
go on, whenever everything before it has been put there. Rows and place become durable in one transaction, so an import
that was killed goes on where it was.
"""
