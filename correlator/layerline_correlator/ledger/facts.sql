-- What was measured where: the words that a cause's `needs` may name, and how to say that one is missing.
--
-- fact: layerline.account: what its threads did
-- fact: layerline.container.throttled_ns: its container's throttled time
-- fact: layerline.container.usage_ns: its container's CPU time
-- fact: layerline.thread.blkio_ns: block-I/O delay of its threads
-- fact: layerline.container.refaults: what its container read again for want of memory
-- fact: layerline.samples: what its threads waited for
-- fact: layerline.accept_wait_ns: when the request arrived in the kernel
-- fact: container events: when containers started and ended
-- fact: container.cpu.time: its container's CPU time
-- fact: container.cpu.throttled: its container's throttled time
-- fact: container.cpu.pressure: CPU pressure of its container
-- fact: container.memory.refaults: what its container read again for want of memory
-- fact: container.network.tcp.retransmits: how many TCP segments its container sent again
-- fact: container.io.pressure: I/O pressure of its container
-- fact: container.disk.io: what its container read and wrote
-- fact: system.cpu.time: CPU time of the machine
-- fact: system.network.io: traffic of the machine
-- fact: system.disk.io_time: busy time of the disks
-- fact: system.io.pressure: I/O pressure of the machine

-- The facts of each visit, some perhaps twice. A signal is one where its readings cover the visit; a cause may declare facts of
-- its own in its header.
-- makes: fact
-- reads: measured_visit, measured_piece, seen, sampled, known_container, callee
CREATE OR REPLACE TEMP TABLE fact AS
WITH
of_visits AS (
    SELECT
        request_no, visit_no,
        [CASE WHEN covered_ns >= 0.9 * path_ns
                OR path_ns - covered_ns <= 0.02 * sum(path_ns) OVER (PARTITION BY request_no)
              THEN 'layerline.account' END,
         CASE WHEN throttled_ns IS NOT NULL THEN 'layerline.container.throttled_ns' END,
         CASE WHEN usage_ns IS NOT NULL THEN 'layerline.container.usage_ns' END,
         CASE WHEN refaults IS NOT NULL THEN 'layerline.container.refaults' END,
         CASE WHEN described THEN 'container events' END] AS names
    FROM measured_visit LEFT JOIN known_container USING (container_id)
),
of_pieces AS (
    SELECT
        request_no, visit_no,
        [CASE WHEN bool_or(blkio_ns IS NOT NULL) THEN 'layerline.thread.blkio_ns' END,
         CASE WHEN bool_or(accept_wait_ns IS NOT NULL) THEN 'layerline.accept_wait_ns' END,
         -- Nobody needs to look at what was over before a look was due, nor at what was measured to run all the time.
         CASE WHEN coalesce(sum(looks), 0) > 0 OR sum(length_ns) < 150_000_000 OR sum(off_ns) < 0.2 * sum(length_ns)
              THEN 'layerline.samples' END] AS names
    FROM measured_piece LEFT JOIN sampled USING (piece_no)
    GROUP BY request_no, visit_no
),
listed AS (
    SELECT request_no, visit_no, unnest(names) AS name FROM of_visits
    UNION ALL
    SELECT request_no, visit_no, unnest(names) FROM of_pieces
)
FROM listed WHERE name IS NOT NULL
UNION ALL
-- only with: seen
SELECT request_no, visit_no, signal FROM seen WHERE piece_no IS NULL
GROUP BY ALL HAVING max(covered_ns / stretch_ns) >= 0.9
UNION ALL
-- only with: callee
-- Whom a process outside of containers calls may be in one.
SELECT DISTINCT request_no, visit_no, 'container events'
FROM measured_piece
JOIN callee USING (piece_no)
LEFT JOIN known_container AS container ON container.container_id = callee.container_id
WHERE described OR NOT answered; -- who did not answer was found by its description
