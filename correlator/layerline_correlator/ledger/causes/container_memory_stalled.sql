-- title: its memory limit made it read pages again
-- layer: container
-- order: 500
-- reads: memory_stall full_memory piece left_over
-- with any of: memory_stall full_memory
-- applies: container
-- needs: layerline.account, layerline.container.refaults | container.memory.refaults, layerline.thread.blkio_ns | container.io.pressure
-- means: The container was at its memory limit: pages that it needs were thrown out and had to be read from the disk again, which costs both waiting and system time.
-- mistaken for: An honest first read (host.io_saturated, container.io_throttled): there nothing is read twice. Only refaults tell the two apart; memory pressure sees a few per cent of it.
-- fits: limit changed: its limit is what the slow requests waited for
-- fits: new code: it may have come with another limit, or need more
-- fits: container started: it may have come with another limit, or need more
-- takes over: host.memory_stalled
-- suspected in: any place
-- try: Raise the memory limit (`docker update --memory`), or map and cache less.
-- try in a pod: Raise the memory limit of the container in its pod's specification (`resources.limits.memory`), or map and cache less.
-- enable: start the service with `layerline run -- CMD`, and run `layerline agent` on the machine (`sysctl kernel.task_delayacct=1` makes the waits exact)
-- source: memory.stat workingset_refault_*; memory.failcnt (v1) or memory.events max (v2); block-I/O delay; ru_stime, ru_majflt
SELECT * EXCLUDE (of_container) FROM memory_stall WHERE of_container
UNION ALL BY NAME
-- only with: full_memory
-- Without an account of its threads: it was full to its limit, and faulted. How much of this request that took is not known.
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, full_memory.container_id AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('it used {:.0f} % of its memory limit{} and had {:.0f} pages a second read from the disk again; '
           || 'for {} of “{}” nothing was computed', 100 * ratio,
           coalesce(format(' of {:.0f} MB', limit_bytes / 1e6), ''), faults_per_s, '{lost}', name) AS because
FROM piece JOIN left_over USING (piece_no) JOIN full_memory USING (piece_no)
WHERE piece.inferred AND NOT is_client(kind) AND off_left >= ms_of(5)
