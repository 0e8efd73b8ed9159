-- Off the CPU, waiting for a block device: how long, and was it the container's own limit or the device?
--
-- The thread's own block-I/O delay where the kernel counts it (kernel.task_delayacct); it comes in clock ticks of 10 ms.
-- Else the container's io.pressure stands in, but only for a thread that itself moved blocks. Pressure is a union over
-- everybody in the container, so its lower bound holds only when most of the container's bytes were this thread's.
-- Outside a container, or where it has no pressure file, the host's pressure bounds it from above.
CREATE OR REPLACE TEMP TABLE blocks AS
WITH
candidates AS (
    SELECT
        piece.* EXCLUDE (inferred), piece.inferred AS is_inferred, visit.window_ns, visit.io_pressure_ns,
        512.0 * (coalesce(blocks_read, 0) + coalesce(blocks_written, 0)) AS own_bytes
    FROM piece JOIN visit USING (request_no, visit_no)
    WHERE off_left > 0 AND (moved_blocks OR (piece.inferred AND piece.kind <> 3))
),
pressures AS (
    SELECT piece_no, signal, sum(estimate) AS estimate, sum(low) AS low, sum(high) AS high
    FROM seen
    WHERE piece_no IS NOT NULL AND NOT peer AND signal IN ('container.io.pressure', 'system.io.pressure')
      AND attributes['pressure.kind'] = 'some'
    GROUP BY ALL
    HAVING sum(covered_ns) >= 0.9 * sum(stretch_ns)
),
pressure AS (
    SELECT piece_no, signal = 'container.io.pressure' AS of_container, estimate, low, high
    FROM pressures
    QUALIFY row_number() OVER (PARTITION BY piece_no ORDER BY signal) = 1
),
moved AS (
    SELECT piece_no, sum(estimate) AS bytes, sum(high) AS bytes_high
    FROM seen WHERE piece_no IS NOT NULL AND NOT peer AND signal = 'container.disk.io' GROUP BY ALL
),
device AS (
    SELECT piece_no, max(busy_ns) AS busy_ns FROM (
        SELECT piece_no, series, sum(estimate) AS busy_ns
        FROM seen WHERE piece_no IS NOT NULL AND NOT peer AND signal = 'system.disk.io_time' GROUP BY ALL
    ) AS each_device GROUP BY piece_no
),
bytes_limit AS (
    SELECT request_no, visit_no, min(value) AS bytes_per_s
    FROM level WHERE signal = 'container.disk.limit' AND value > 0 GROUP BY ALL
),
operations_limit AS (
    SELECT request_no, visit_no, min(value) AS operations_per_s
    FROM level WHERE signal = 'container.disk.operations.limit' AND value > 0 GROUP BY ALL
),
waits AS (
    SELECT
        candidates.*,
        coalesce(own_bytes >= 0.5 * bytes AND own_bytes > 0, false) AS mostly_own,
        bytes,
        -- What it may have moved: without our account all that its container did, in a long interval too.
        CASE WHEN is_inferred THEN bytes_high ELSE greatest(bytes, own_bytes) END AS bytes_at_most,
        coalesce(busy_ns, 0) AS busy_ns, busy_ns IS NOT NULL AS device_seen, bytes_per_s, operations_per_s,
        blkio_ns IS NULL AS inferred,
        -- Nobody counted the blocks of a thread without our account: its container must have moved some.
        NOT is_inferred OR bytes > 0 AS moved,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN blkio_ns * share
            WHEN io_pressure_ns IS NOT NULL THEN least(io_pressure_ns, length_ns)
            -- What grew at the edges of its stretch grew inside it, if it was the one that moved the blocks.
            WHEN mostly_own                 THEN high
            ELSE estimate
        END AS raw_ns,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN greatest(0, blkio_ns * share - 10_000_000)
            -- Nobody else was at work in its container (infer.sql).
            WHEN is_inferred                THEN coalesce(alone_ns, 0)
            WHEN NOT mostly_own             THEN 0 * coalesce(io_pressure_ns, estimate)
            WHEN io_pressure_ns IS NOT NULL THEN greatest(0, io_pressure_ns - (window_ns - off_left))
            -- Its share of the bytes, less a fifth, of what grew at the edges of its stretch.
            WHEN of_container               THEN greatest(low, 0.8 * high * least(1, own_bytes / bytes))
            ELSE 0 * estimate
        END AS raw_low_ns,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN blkio_ns * share + 10_000_000
            WHEN io_pressure_ns IS NOT NULL THEN io_pressure_ns
            ELSE high
        END AS raw_high_ns
    FROM candidates
    LEFT JOIN pressure USING (piece_no)
    LEFT JOIN moved USING (piece_no)
    LEFT JOIN device USING (piece_no)
    LEFT JOIN (SELECT piece_no, low AS alone_ns FROM counted WHERE signal = 'container.io.pressure') AS alone USING (piece_no)
    LEFT JOIN bytes_limit ON bytes_limit.request_no = candidates.request_no AND bytes_limit.visit_no = candidates.visit_no
    LEFT JOIN operations_limit
        ON operations_limit.request_no = candidates.request_no AND operations_limit.visit_no = candidates.visit_no
)
SELECT
    piece_no, request_no, visit_no, container_id, host, off_left AS off_ns, inferred, busy_ns, device_seen, bytes, bytes_per_s,
    operations_per_s, own_bytes, raw_ns IS NOT NULL AS known, others,
    0::BIGINT AS memory_ns,  -- of it, for want of memory (refaults.sql)
    smaller(raw_ns, off_left)::BIGINT                                    AS lost_ns,
    smaller(raw_low_ns, smaller(raw_ns, off_left))::BIGINT               AS low_ns,
    smaller(greatest(raw_high_ns, raw_ns),
            CASE WHEN is_inferred THEN length_ns - cpu_low - wait_low ELSE off_left END)::BIGINT AS high_ns,
    -- At its limit: it moved at least half of what the limit allows in the time that it waited; or it has a limit, moved
    -- something, and waited for a device that stood idle: it still paid for what it had moved before.
    coalesce(bytes_at_most >= 0.5 * bytes_per_s * smaller(raw_ns, off_left) / 1e9, false)
        OR coalesce(device_seen AND bytes_per_s > 0 AND bytes_at_most > 0
                    AND busy_ns < 0.25 * smaller(raw_ns, off_left), false)
        OR operations_per_s IS NOT NULL AS at_limit
FROM waits
LEFT JOIN (
    -- who else moved bytes on this machine meanwhile
    SELECT request_no, visit_no,
           list({'entity_type': 'container', 'entity_id': entity_id, 'ran_ns': bytes} ORDER BY bytes DESC) AS others
    FROM (
        SELECT visit.request_no, visit.visit_no, reading.entity_id,
               sum(rise * (greatest(0, least(reading.to_ns, visit.to_ns) - greatest(reading.from_ns, visit.from_ns))
                           / (reading.to_ns - reading.from_ns)))::BIGINT AS bytes
        FROM visit JOIN reading ON reading.host = visit.host
        WHERE signal = 'container.disk.io' AND reading.entity_id IS DISTINCT FROM visit.container_id
          AND reading.from_ns < visit.to_ns AND reading.to_ns > visit.from_ns
        GROUP BY ALL HAVING bytes > 0)
    GROUP BY ALL
) AS movers USING (request_no, visit_no)
WHERE moved;
