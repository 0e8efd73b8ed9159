-- Off the CPU, waiting for a block device: how long, and was it the container's own limit, the device, or want of memory?

-- The spans that can have waited for a device.
-- makes: disk_user
-- reads: piece
-- only where: piece: moved_blocks OR (inferred AND NOT is_client(kind))
CREATE OR REPLACE TEMP TABLE disk_user AS
SELECT piece_no FROM piece WHERE moved_blocks OR (inferred AND NOT is_client(kind));

-- Those of them whose container moved any blocks. (Of a thread with our account it is known that it did.)
-- makes: disk_waiter
-- reads: disk_user, piece, seen
-- only with: disk_user
CREATE OR REPLACE TEMP TABLE disk_waiter AS
SELECT piece_no FROM piece SEMI JOIN disk_user USING (piece_no)
WHERE NOT inferred
   OR piece_no IN (
       SELECT piece_no FROM seen
       WHERE piece_no IS NOT NULL AND NOT peer AND signal = 'container.disk.io' AND estimate > 0);

-- The limits on the devices of each visit: its container's own, else of a cgroup above it.
-- makes: disk_limit
-- reads: level
-- only with: level
CREATE OR REPLACE TEMP TABLE disk_limit AS
SELECT
    request_no, visit_no,
    any_value(value)     FILTER (signal = 'container.disk.limit')                     AS own_bytes_per_s,
    any_value(value)     FILTER (signal = 'container.disk.operations.limit')          AS own_operations_per_s,
    any_value(value)     FILTER (signal = 'container.ancestor.disk.limit')            AS above_bytes_per_s,
    any_value(of_cgroup) FILTER (signal = 'container.ancestor.disk.limit')            AS above_bytes_cgroup,
    any_value(value)     FILTER (signal = 'container.ancestor.disk.operations.limit') AS above_operations_per_s,
    any_value(of_cgroup) FILTER (signal = 'container.ancestor.disk.operations.limit') AS above_operations_cgroup
FROM level
WHERE signal IN ('container.disk.limit', 'container.disk.operations.limit', 'container.ancestor.disk.limit',
                 'container.ancestor.disk.operations.limit')
GROUP BY request_no, visit_no;

-- The same per piece that can have waited for one; of a limit above its container with what was moved below that.
-- makes: limited_piece
-- reads: piece, disk_waiter, disk_limit, seen
-- only with: disk_waiter, disk_limit
CREATE OR REPLACE TEMP TABLE limited_piece AS
WITH moved_below AS (
    SELECT piece_no, signal, cgroup, sum(high) AS moved
    FROM seen
    WHERE piece_no IS NOT NULL AND NOT peer
        AND signal IN ('container.ancestor.disk.io', 'container.ancestor.disk.operations')
    GROUP BY ALL
)
SELECT
    piece.piece_no, disk_limit.* EXCLUDE (request_no, visit_no),
    bytes_below.moved AS bytes_below, operations_below.moved AS operations_below
FROM piece
SEMI JOIN disk_waiter ON disk_waiter.piece_no = piece.piece_no
JOIN disk_limit ON disk_limit.request_no = piece.request_no AND disk_limit.visit_no = piece.visit_no
LEFT JOIN moved_below AS bytes_below
    ON bytes_below.piece_no = piece.piece_no AND bytes_below.signal = 'container.ancestor.disk.io'
    AND bytes_below.cgroup = above_bytes_cgroup
LEFT JOIN moved_below AS operations_below
    ON operations_below.piece_no = piece.piece_no AND operations_below.signal = 'container.ancestor.disk.operations'
    AND operations_below.cgroup = above_operations_cgroup;

-- The thread's own block-I/O delay where the kernel counts it (kernel.task_delayacct); it comes in clock ticks of 10 ms.
-- Else the container's io.pressure stands in, but only for a thread that itself moved blocks. Pressure is a union over
-- everybody in the container, so its lower bound holds only when most of the container's bytes were this thread's. It leaves
-- out what waits for a journal or a buffer that somebody else writes: looks that find the thread in a disk's wait count too.
-- Outside a container, or where it has no pressure file, the host's pressure bounds it from above.
-- makes: block_wait
-- reads: piece, disk_waiter, left_over, visit, seen, limited_piece, counted, neighbours, sampled
-- only with: disk_waiter
CREATE OR REPLACE TEMP TABLE block_wait AS
WITH
candidates AS (
    SELECT
        piece.piece_no, request_no, visit_no, piece.container_id, piece.host, length_ns, piece.share, blkio_ns, cpu_low,
        wait_low, off_left, piece.inferred AS is_inferred, visit.window_ns, visit.io_pressure_ns,
        512.0 * (coalesce(blocks_read, 0) + coalesce(blocks_written, 0)) AS own_bytes,
        -- A thread that gave its CPU up as often as it had to have a page read slept for those pages.
        CASE WHEN blocks_read > 0 AND major_faults >= 10
              AND major_faults BETWEEN 0.9 * voluntary_switches AND 1.5 * voluntary_switches
             THEN off_left * least(1, major_faults / voluntary_switches) END AS page_sleep_ns,
        CASE WHEN disk_looks >= 2 THEN off_left * (disk_looks / asleep) END           AS looked_ns,
        CASE WHEN disk_looks >= 2 THEN (disk_looks - 2) * every_ns END                AS looked_low_ns,
        CASE WHEN disk_looks >= 2 THEN off_left * least(1, (disk_looks + 2) / asleep) END AS looked_high_ns
    FROM piece JOIN left_over USING (piece_no) JOIN visit USING (request_no, visit_no)
    LEFT JOIN sampled ON sampled.piece_no = piece.piece_no
    SEMI JOIN disk_waiter ON disk_waiter.piece_no = piece.piece_no
    WHERE off_left > 0
),
-- One look at all that was seen of each piece. Pressure counts where readings cover the piece: its container's, else the host's.
counters AS (
    SELECT
        piece_no, signal,
        sum(estimate) AS estimate, sum(low) AS low, sum(high) AS high,
        sum(covered_ns) >= 0.9 * sum(stretch_ns) AS is_covered
    FROM seen
    WHERE piece_no IS NOT NULL AND NOT peer
        AND (signal IN ('container.disk.io', 'container.disk.operations')
            OR (signal IN ('container.io.pressure', 'system.io.pressure') AND pressure_kind = 'some'))
    GROUP BY piece_no, signal
),
pressure AS (
    SELECT piece_no, signal = 'container.io.pressure' AS of_container, estimate, low, high
    FROM counters
    WHERE signal IN ('container.io.pressure', 'system.io.pressure') AND is_covered
    QUALIFY row_number() OVER (PARTITION BY piece_no ORDER BY signal) = 1
),
moved AS (
    SELECT
        piece_no,
        any_value(estimate) FILTER (signal = 'container.disk.io')         AS bytes,
        any_value(high)     FILTER (signal = 'container.disk.io')         AS bytes_high,
        any_value(high)     FILTER (signal = 'container.disk.operations') AS operations_at_most
    FROM counters
    GROUP BY piece_no
),
device AS (
    SELECT piece_no, max(busy_ns) AS busy_ns FROM (
        SELECT piece_no, line_no, sum(estimate) AS busy_ns
        FROM seen WHERE piece_no IS NOT NULL AND NOT peer AND signal = 'system.disk.io_time' GROUP BY ALL
    ) AS each_device GROUP BY piece_no
),
waits AS (
    SELECT
        candidates.*,
        coalesce(own_bytes >= 0.5 * bytes AND own_bytes > 0, FALSE) AS mostly_own,
        bytes,
        -- What it may have moved: without our account all that its container did, in a long interval too.
        CASE WHEN is_inferred THEN bytes_high ELSE greatest(bytes, own_bytes) END AS bytes_at_most,
        coalesce(busy_ns, 0) AS busy_ns, busy_ns IS NOT NULL AS device_seen,
        own_bytes_per_s, own_operations_per_s, above_bytes_per_s, above_operations_per_s,
        above_bytes_cgroup, above_operations_cgroup, bytes_below, operations_below,
        operations_at_most,
        blkio_ns IS NULL AS inferred,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN blkio_ns * share
            WHEN page_sleep_ns IS NOT NULL  THEN page_sleep_ns
            WHEN io_pressure_ns IS NOT NULL THEN least(io_pressure_ns, length_ns)
            -- What grew at the edges of its stretch grew inside it, if it was the one that moved the blocks.
            WHEN mostly_own                 THEN high
            ELSE estimate
        END AS raw_ns,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN greatest(0, blkio_ns * share - 10_000_000)
            -- Its few other sleeps may have been longer; not so much that they were more than half of all.
            WHEN page_sleep_ns IS NOT NULL  THEN 0.5 * page_sleep_ns
            -- Nobody else was at work in its container (inferred.sql).
            WHEN is_inferred                THEN coalesce(alone_ns, 0)
            WHEN NOT mostly_own             THEN 0 * coalesce(io_pressure_ns, estimate)
            WHEN io_pressure_ns IS NOT NULL THEN greatest(0, io_pressure_ns - (window_ns - off_left))
            -- Its share of the bytes, less a fifth, of what grew at the edges of its stretch.
            WHEN of_container               THEN greatest(low, 0.8 * high * least(1, own_bytes / bytes))
            ELSE 0 * estimate
        END AS raw_low_ns,
        CASE
            WHEN blkio_ns IS NOT NULL       THEN blkio_ns * share + 10_000_000
            WHEN page_sleep_ns IS NOT NULL  THEN off_left
            WHEN io_pressure_ns IS NOT NULL THEN io_pressure_ns
            ELSE high
        END AS raw_high_ns
    FROM candidates
    LEFT JOIN pressure USING (piece_no)
    LEFT JOIN moved USING (piece_no)
    LEFT JOIN device USING (piece_no)
    LEFT JOIN
        (SELECT piece_no, low AS alone_ns FROM counted WHERE signal = 'container.io.pressure') AS alone
    USING (piece_no)
    LEFT JOIN limited_piece USING (piece_no)
),
-- At a limit: it moved at least half of what the limit allows in the time that it waited; or there is a limit, it moved
-- something, and waited for a device that stood idle: it still paid for what had been moved before. A limit of operations
-- is believed where nobody counted them.
looked_at AS (
    SELECT * REPLACE (
        CASE WHEN blkio_ns IS NULL THEN greatest(raw_ns, looked_ns) ELSE raw_ns END                AS raw_ns,
        CASE WHEN blkio_ns IS NULL THEN greatest(raw_low_ns, looked_low_ns) ELSE raw_low_ns END    AS raw_low_ns,
        CASE WHEN blkio_ns IS NULL THEN greatest(raw_high_ns, looked_high_ns) ELSE raw_high_ns END AS raw_high_ns
    )
    FROM waits
),
bounded AS (
    SELECT *, least_or_null(raw_ns, off_left) AS waited_ns FROM looked_at
),
beside_device AS (
    SELECT
        *, coalesce(device_seen AND bytes_at_most > 0 AND busy_ns < 0.25 * waited_ns, FALSE) AS device_idle
    FROM bounded
),
at_own AS (
    SELECT
        *,
        coalesce(
            bytes_at_most >= 0.5 * own_bytes_per_s * waited_ns / 1e9 OR (device_idle AND own_bytes_per_s > 0), FALSE)
            OR (own_operations_per_s IS NOT NULL AND coalesce(
                operations_at_most >= 0.5 * own_operations_per_s * waited_ns / 1e9 OR device_idle, TRUE))
            AS at_own_limit
    FROM beside_device
),
at_bytes AS (
    SELECT
        *,
        NOT at_own_limit AND coalesce(
            greatest(bytes_below, bytes_at_most) >= 0.5 * above_bytes_per_s * waited_ns / 1e9
            OR (device_idle AND above_bytes_per_s > 0), FALSE) AS at_bytes_above
    FROM at_own
),
limited AS (
    SELECT
        *,
        NOT at_own_limit AND NOT at_bytes_above AND above_operations_per_s IS NOT NULL AND coalesce(
            operations_below >= 0.5 * above_operations_per_s * waited_ns / 1e9 OR device_idle, TRUE)
            AS at_operations_above
    FROM at_bytes
)
SELECT
    piece_no,
    request_no,
    visit_no,
    container_id,
    host,
    off_left AS off_ns,
    inferred,
    busy_ns,
    device_seen,
    greatest(bytes, own_bytes, CASE WHEN at_bytes_above THEN bytes_below END) AS bytes,
    CASE WHEN at_bytes_above THEN above_bytes_per_s WHEN NOT at_operations_above THEN own_bytes_per_s END
        AS bytes_per_s,
    CASE WHEN at_operations_above THEN above_operations_per_s WHEN NOT at_bytes_above THEN own_operations_per_s END
        AS operations_per_s,
    CASE WHEN at_bytes_above THEN above_bytes_cgroup WHEN at_operations_above THEN above_operations_cgroup END
        AS of_cgroup,
    coalesce(own_bytes_per_s, own_operations_per_s, above_bytes_per_s, above_operations_per_s) IS NOT NULL
        AS has_limit,
    raw_ns IS NOT NULL AS known, neighbours_no,
    waited_ns::BIGINT                                                          AS lost_ns,
    least_or_null(raw_low_ns, waited_ns)::BIGINT                                     AS low_ns,
    least_or_null(greatest(raw_high_ns, raw_ns),
            CASE WHEN is_inferred THEN length_ns - cpu_low - wait_low ELSE off_left END)::BIGINT AS high_ns,
    at_own_limit OR at_bytes_above OR at_operations_above AS at_limit
FROM limited
LEFT JOIN
    (SELECT visit_no, neighbours_no FROM neighbours WHERE shared = 'disk') AS movers
USING (visit_no);

-- The visits in which pages were read again that had been in memory.
-- makes: refault
-- reads: visit, seen
-- only with: disk_user
CREATE OR REPLACE TEMP TABLE refault AS
SELECT request_no, visit_no FROM visit WHERE refaults > 0
UNION ALL
SELECT request_no, visit_no FROM seen
WHERE signal = 'container.memory.refaults' AND estimate > 0 AND piece_no IS NULL;

-- Pages that had to be read again because memory was short: the share of a visit's page-ins that were that, and whose memory
-- was short.
-- makes: refaulted
-- reads: visit, piece, seen, level
-- only with: disk_user, refault
CREATE OR REPLACE TEMP TABLE refaulted AS
WITH
read_again AS (
    SELECT
        request_no, visit_no,
        sum(estimate) FILTER (signal = 'container.memory.refaults')                                      AS refaults,
        sum(high)     FILTER (signal = 'container.memory.limit_hits')                                    AS limit_hits,
        sum(high)     FILTER (signal = 'container.ancestor.memory.limit_hits')                           AS hits_above,
        arg_max(cgroup, high)
            FILTER (signal = 'container.ancestor.memory.limit_hits' AND high > 0) AS hit_cgroup,
        sum(high)     FILTER (signal = 'system.memory.pressure' AND pressure_kind = 'some')
            AS machine_pressure_ns,
        sum(estimate) FILTER (signal = 'container.disk.io' AND disk_direction = 'read') AS read_bytes,
        sum(estimate) FILTER (signal = 'container.memory.pressure' AND pressure_kind = 'some')
            AS pressure_ns
    FROM seen WHERE piece_no IS NULL GROUP BY ALL
),
own AS (
    SELECT
        request_no,
        visit_no,
        sum(coalesce(blocks_read, 0)) * 512 / 4096 AS pages,
        sum(coalesce(major_faults, 0)) AS major_faults
    FROM piece GROUP BY ALL
),
memory AS (
    SELECT request_no, visit_no, any_value(value) FILTER (signal = 'container.memory.usage') AS used_bytes,
           any_value(value) FILTER (signal = 'container.memory.limit') AS limit_bytes,
           any_value(value) FILTER (signal = 'container.ancestor.memory.usage') AS used_above,
           any_value(value) FILTER (signal = 'container.ancestor.memory.limit') AS limit_above,
           any_value(of_cgroup) FILTER (signal = 'container.ancestor.memory.limit') AS limited_cgroup
    FROM level GROUP BY ALL
),
together AS (
    SELECT
        visit.request_no, visit.visit_no, visit.container_id, visit.host, pages, major_faults,
        -- The wrapper counts refaults only where the container's own limit was hit: a 0 of it says nothing of other limits.
        CASE WHEN visit.refaults > 0 THEN visit.refaults ELSE coalesce(read_again.refaults, visit.refaults) END
            AS refaults,
        coalesce(visit.refaults > 0, FALSE) OR coalesce(limit_hits > 0, FALSE)
            -- Where its hits are not counted (v1 with memory and swap under one limit): it is full to its limit.
            OR (visit.refaults IS NULL AND limit_hits IS NULL AND coalesce(used_bytes >= 0.95 * limit_bytes, FALSE))
                AS own_limit,
        NOT own_limit AND (coalesce(hits_above > 0, FALSE)
            OR (hits_above IS NULL AND coalesce(used_above >= 0.95 * limit_above, FALSE))) AS limit_of_above,
        CASE WHEN limit_of_above THEN coalesce(hit_cgroup, limited_cgroup) END AS of_cgroup,
        -- The limit that was read, unless it was another before, or since: usage was near it then.
        CASE WHEN own_limit AND coalesce(used_bytes >= 0.8 * limit_bytes, TRUE) THEN limit_bytes
             WHEN of_cgroup = limited_cgroup AND coalesce(used_above >= 0.8 * limit_above, TRUE) THEN limit_above
             END AS limit_at,
        -- Nobody on the machine waited for memory: then it was not short of it.
        coalesce(machine_pressure_ns > 0, TRUE) AS machine_short,
        greatest(coalesce(read_bytes / 4096, 0), pages) AS read_pages, read_again.pressure_ns
    FROM visit
    JOIN own USING (request_no, visit_no)
    LEFT JOIN read_again USING (request_no, visit_no)
    LEFT JOIN memory USING (request_no, visit_no)
)
SELECT *, own_limit OR limit_of_above AS of_container, least(1, refaults / greatest(read_pages, 1)) AS ratio
FROM together
WHERE refaults > 0 AND (pages > 0 OR major_faults > 0) AND (own_limit OR limit_of_above OR machine_short);

-- The waits for a device, and how much of each was for want of memory.
-- makes: blocks
-- reads: block_wait, refaulted
-- only with: block_wait
CREATE OR REPLACE TEMP TABLE blocks AS
SELECT block_wait.*, coalesce(floor(ratio * lost_ns)::BIGINT, 0) AS memory_ns
FROM block_wait LEFT JOIN refaulted USING (request_no, visit_no);

-- That share of the waits for the disk, and of the system time of a thread that faulted; `of_container`: its own limit was
-- reached or that of a cgroup above it, else the machine was short of memory.
-- makes: memory_stall
-- reads: piece, left_over, refaulted, blocks
-- only with: refaulted
CREATE OR REPLACE TEMP TABLE memory_stall AS
WITH shares AS (
    SELECT
        piece.piece_no, of_container, refaulted.of_cgroup, limit_at, ratio, refaults, piece.container_id,
        piece.host, pressure_ns,
        coalesce(blocks.lost_ns, 0) AS off_ns,
        coalesce(blocks.low_ns, 0) AS off_low,
        coalesce(blocks.high_ns, 0) AS off_high,
        coalesce(blocks.inferred, FALSE) AS inferred,
        CASE WHEN piece.major_faults > 0 THEN least(cpu_left, coalesce(system_ns, 0) * share) ELSE 0 END AS system_ns,
        -- The kernel splits user from system time by its ticks: of a short piece it may be all.
        CASE WHEN piece.major_faults > 0 THEN cpu_left ELSE 0 END AS cpu_high
    FROM piece
    JOIN left_over USING (piece_no)
    JOIN refaulted USING (request_no, visit_no)
    LEFT JOIN blocks ON blocks.piece_no = piece.piece_no
    WHERE (NOT of_container OR piece.container_id IS NOT NULL)
      AND (coalesce(piece.major_faults, 0) > 0 OR coalesce(blocks_read, 0) > 0)
),
pools AS (
    SELECT
        *,
        unnest(['off', 'cpu']) AS pool,
        unnest([off_ns, system_ns]) AS whole_ns,
        unnest([off_low, system_ns]) AS whole_low,
           unnest([off_high, cpu_high]) AS whole_high
    FROM shares
)
SELECT
    of_container, piece_no, pool, CASE WHEN of_container THEN 'container' ELSE 'host' END AS entity_type,
    CASE WHEN of_container THEN container_id ELSE host END AS entity_id,
    floor(ratio * whole_ns)::BIGINT  AS lost_ns,
    floor(0.9 * ratio * whole_low)::BIGINT AS low_ns,
    floor(whole_high)::BIGINT AS high_ns,
    pool = 'off' AND inferred AS inferred,
    format('{:.0f} pages that it had had were read again from the disk, {:.0f} % of what was read{}',
           refaults, 100 * ratio,
           CASE WHEN of_container
                THEN coalesce(format('; {} is {:.0f} MB', whose_limit(of_cgroup), limit_at / 1e6),
                              '; it is ' || whose_limit(of_cgroup) || ' that was reached', '')
                ELSE '' END) AS because
FROM pools WHERE whole_ns > 0;
