-- title: held back by its disk limit
-- layer: container
-- order: 600
-- reads: blocks
-- only with: blocks
-- applies: container
-- needs: layerline.account | container.cpu.time, layerline.thread.blkio_ns | container.io.pressure, container.disk.io
-- means: The thread waited for a block device, and its container moved as many bytes or operations as its configured limit lets through.
-- mistaken for: A disk that is slow or busy for everybody (host.io_saturated): there the device itself was busy. A sleep beside a sibling thread that writes (app.blocked): the container's pressure grows, but this thread moved no blocks.
-- fits: limit changed: its limit is what the slow requests waited for
-- fits: new code: it may have come with another limit, or need more
-- fits: container started: it may have come with another limit, or need more
-- takes over: host.io_saturated
-- suspected in: a container that used a disk
-- try: Raise the limit (`--device-write-bps`, `--device-read-bps`; the container must be made anew), write less, or sync less often.
-- enable: run `layerline agent` on the machine (and `sysctl kernel.task_delayacct=1` for exact figures of processes started afterwards)
-- source: /proc/PID/task/TID/stat field 42 (clock ticks) or cgroup io.pressure; blkio.throttle.*_device (v1), io.max (v2)
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, container_id AS entity_id,
    lost_ns - memory_ns AS lost_ns, greatest(0, low_ns - busy_ns - memory_ns)::BIGINT AS low_ns, high_ns, inferred,
    format(
        'its thread waited {:.0f} ms for the disk, which itself was busy for {:.0f} ms{}', lost_ns / 1e6, busy_ns / 1e6,
        CASE WHEN of_cgroup IS NULL AND bytes_per_s IS NOT NULL
             THEN format('; the container may move {:.1f} MB/s and moved {:.1f} MB', bytes_per_s / 1e6, bytes / 1e6)
             WHEN of_cgroup IS NULL
             THEN format('; the container may make {:.0f} operations/s', operations_per_s)
             WHEN bytes_per_s IS NOT NULL
             THEN format('; all below {}, above the container, may move {:.1f} MB/s and moved {:.1f} MB',
                         of_cgroup, bytes_per_s / 1e6, bytes / 1e6)
             ELSE format('; all below {}, above the container, may make {:.0f} operations/s',
                         of_cgroup, operations_per_s) END) AS because
FROM blocks
WHERE at_limit AND blocks.lost_ns > memory_ns AND container_id IS NOT NULL
