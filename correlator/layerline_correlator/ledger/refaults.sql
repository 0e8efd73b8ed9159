-- Pages that had to be read again because memory was short: how much of a visit's reading was that?
--
-- In:  visit, piece, seen (readings.sql), blocks (waiting_for_blocks.sql).
-- Out: refaulted (per visit: the share of its page-ins that were refaults, and whose memory was short).
CREATE OR REPLACE TEMP TABLE refaulted AS
WITH
counted AS (
    SELECT
        request_no, visit_no,
        sum(estimate) FILTER (signal = 'container.memory.refaults')                                      AS refaults,
        sum(high)     FILTER (signal = 'container.memory.limit_hits')                                    AS limit_hits,
        sum(estimate) FILTER (signal = 'container.disk.io' AND attributes['disk.io.direction'] = 'read') AS read_bytes,
        sum(estimate) FILTER (signal = 'container.memory.pressure' AND attributes['pressure.kind'] = 'some') AS pressure_ns
    FROM seen WHERE piece_no IS NULL GROUP BY ALL
),
own AS (
    SELECT request_no, visit_no, sum(coalesce(blocks_read, 0)) * 512 / 4096 AS pages, sum(coalesce(major_faults, 0)) AS major_faults
    FROM piece GROUP BY ALL
),
together AS (
    SELECT
        visit.request_no, visit.visit_no, visit.container_id, visit.host, pages, major_faults,
        coalesce(visit.refaults, counted.refaults) AS refaults,
        -- The wrapper counts refaults only where the container's own limit was hit.
        coalesce(visit.refaults > 0, false) OR coalesce(limit_hits > 0, false)
            -- Where its hits are not counted (v1 with memory and swap under one limit): it is full to its limit.
            OR (visit.refaults IS NULL AND limit_hits IS NULL AND coalesce(used_bytes >= 0.95 * limit_bytes, false)) AS own_limit,
        greatest(coalesce(read_bytes / 4096, 0), pages) AS read_pages, counted.pressure_ns
    FROM visit
    JOIN own USING (request_no, visit_no)
    LEFT JOIN counted USING (request_no, visit_no)
    LEFT JOIN (
        SELECT request_no, visit_no, max(value) FILTER (signal = 'container.memory.usage') AS used_bytes,
               min(value) FILTER (signal = 'container.memory.limit') AS limit_bytes
        FROM level GROUP BY ALL
    ) AS memory USING (request_no, visit_no)
)
SELECT *, least(1, refaults / greatest(read_pages, 1)) AS ratio
FROM together
WHERE refaults > 0 AND (pages > 0 OR major_faults > 0);

UPDATE blocks SET memory_ns = floor(ratio * lost_ns)::BIGINT
FROM refaulted
WHERE refaulted.request_no = blocks.request_no AND refaulted.visit_no = blocks.visit_no;

-- That share of the waits for the disk, and of the system time of a thread that faulted.
CREATE OR REPLACE TEMP MACRO stalled_for_memory(of_container) AS TABLE
WITH shares AS (
    SELECT
        piece.piece_no, ratio, refaults, piece.container_id, piece.host, pressure_ns,
        coalesce(blocks.lost_ns, 0) AS off_ns, coalesce(blocks.low_ns, 0) AS off_low, coalesce(blocks.high_ns, 0) AS off_high,
        coalesce(blocks.inferred, false) AS inferred,
        CASE WHEN piece.major_faults > 0 THEN least(cpu_left, coalesce(system_ns, 0) * share) ELSE 0 END AS system_ns,
        -- The kernel splits user from system time by its ticks: of a short piece it may be all.
        CASE WHEN piece.major_faults > 0 THEN cpu_left ELSE 0 END AS cpu_high
    FROM piece
    JOIN refaulted USING (request_no, visit_no)
    LEFT JOIN blocks ON blocks.piece_no = piece.piece_no
    WHERE own_limit = of_container AND (of_container = false OR piece.container_id IS NOT NULL)
      AND (coalesce(piece.major_faults, 0) > 0 OR coalesce(blocks_read, 0) > 0)
),
pools AS (
    SELECT *, unnest(['off', 'cpu']) AS pool, unnest([off_ns, system_ns]) AS whole_ns, unnest([off_low, system_ns]) AS whole_low,
           unnest([off_high, cpu_high]) AS whole_high
    FROM shares
)
SELECT
    piece_no, pool, CASE WHEN of_container THEN 'container' ELSE 'host' END AS entity_type,
    CASE WHEN of_container THEN container_id ELSE host END AS entity_id,
    floor(ratio * whole_ns)::BIGINT  AS lost_ns,
    floor(0.9 * ratio * whole_low)::BIGINT AS low_ns,
    floor(whole_high)::BIGINT AS high_ns,
    pool = 'off' AND inferred AS inferred,
    format('{:.0f} pages that it had had were read again from the disk, {:.0f} % of what was read', refaults, 100 * ratio) AS because
FROM pools WHERE whole_ns > 0;
