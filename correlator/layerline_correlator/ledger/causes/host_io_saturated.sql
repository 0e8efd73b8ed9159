-- title: waited for a busy disk
-- layer: host
-- order: 610
-- reads: blocks piece left_over vm_limit disk_waiter
-- with any of: blocks vm_limit
-- needs: layerline.account | container.cpu.time, layerline.thread.blkio_ns | container.io.pressure | system.io.pressure, system.disk.io_time
-- means: The thread waited for a block device that was itself busy, and no limit of its container was reached.
-- mistaken for: A disk limit of the container (container.io_throttled): there the device has time to spare.
-- fits: neighbour started: it used {share} of what the slow requests waited for
-- fits: new code: new code may use more of the machine
-- takes over: container.io_throttled
-- suspected in: a container that used a disk
-- suspected of neighbours by: container.disk.io
-- try: Find who else reads or writes on this disk; a faster disk; less to read or write.
-- enable: run `layerline agent` on the machine
-- source: /proc/PID/task/TID/stat field 42 or cgroup io.pressure; /proc/diskstats field 13; the provider's limits of the volume and the machine (CloudWatch VolumeIOPSExceededCheck, EBSIOBalance%)
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, host AS entity_id,
    least(blocks.lost_ns - memory_ns, greatest(busy_ns, coalesce(full_ns, 0)))::BIGINT AS lost_ns,
    -- A device that was busy nearly all the while, and no limit that could have been the reason instead.
    CASE
        WHEN
            busy_ns >= 0.9 * blocks.lost_ns AND NOT has_limit
            THEN greatest(0, low_ns - memory_ns) ELSE 0
    END AS low_ns,
    least(high_ns, greatest(busy_ns, blocks.lost_ns))::BIGINT AS high_ns,
    inferred, neighbours_no,
    format('its thread waited {:.0f} ms for a disk{}{}', lost_ns / 1e6,
           CASE WHEN device_seen THEN format(' that was busy for {:.0f} ms', busy_ns / 1e6) ELSE '' END,
           coalesce('; ' || said, '')) AS because
FROM blocks
LEFT JOIN (SELECT piece_no, full_ns, said FROM vm_limit WHERE what = 'disk' AND NOT peer) AS volume USING (piece_no)
WHERE NOT at_limit AND blocks.lost_ns > memory_ns AND (device_seen OR full_ns IS NOT NULL)
UNION ALL BY NAME
-- only with: vm_limit
-- Nobody measured a wait for blocks, but its container moved some while the machine's disks were at their limit.
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, vm_limit.host AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('{}, and its container read or wrote; for {} of “{}” nothing was computed', said, '{lost}', name) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN (FROM vm_limit WHERE what = 'disk' AND NOT peer) AS vm_limit USING (piece_no)
SEMI JOIN disk_waiter ON disk_waiter.piece_no = piece.piece_no
WHERE inferred AND NOT is_client(kind) AND off_left >= ms_of(5)
  AND piece_no NOT IN (SELECT piece_no FROM blocks WHERE lost_ns > 0)
