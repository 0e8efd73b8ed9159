-- title: waited for a busy disk
-- layer: host
-- order: 610
-- reads: blocks
-- only with: blocks
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
-- source: /proc/PID/task/TID/stat field 42 or cgroup io.pressure; /proc/diskstats field 13
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, host AS entity_id,
    least(blocks.lost_ns - memory_ns, busy_ns)::BIGINT AS lost_ns,
    -- A device that was busy nearly all the while, and no limit that could have been the reason instead.
    CASE
        WHEN
            busy_ns >= 0.9 * blocks.lost_ns AND NOT has_limit
            THEN greatest(0, low_ns - memory_ns) ELSE 0
    END AS low_ns,
    least(high_ns, greatest(busy_ns, blocks.lost_ns))::BIGINT AS high_ns,
    inferred, neighbours_no,
    format('its thread waited {:.0f} ms for a disk that was busy for {:.0f} ms', lost_ns / 1e6, busy_ns / 1e6)
        AS because
FROM blocks
WHERE NOT at_limit AND blocks.lost_ns > memory_ns AND device_seen
