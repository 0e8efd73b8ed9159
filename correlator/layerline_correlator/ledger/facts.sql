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

-- A fact of each visit. A signal is one where its readings cover the visit; a cause may declare facts of its own in its header.
-- makes: fact
-- reads: measured_visit, measured_piece, seen, sampled, known_container, callee
CREATE OR REPLACE TEMP TABLE fact AS
SELECT request_no, visit_no, 'layerline.account' AS name FROM measured_visit
QUALIFY covered_ns >= 0.9 * path_ns OR path_ns - covered_ns <= 0.02 * sum(path_ns) OVER (PARTITION BY request_no)
UNION ALL
SELECT request_no, visit_no, 'layerline.container.throttled_ns' FROM measured_visit WHERE throttled_ns IS NOT NULL
UNION ALL
SELECT request_no, visit_no, 'layerline.container.usage_ns' FROM measured_visit WHERE usage_ns IS NOT NULL
UNION ALL
SELECT request_no, visit_no, 'layerline.thread.blkio_ns' FROM measured_piece
GROUP BY ALL HAVING bool_or(blkio_ns IS NOT NULL)
UNION ALL
SELECT request_no, visit_no, signal FROM seen WHERE piece_no IS NULL
GROUP BY ALL HAVING max(covered_ns / stretch_ns) >= 0.9
UNION ALL
SELECT request_no, visit_no, 'layerline.container.refaults' FROM measured_visit WHERE refaults IS NOT NULL
UNION ALL
-- Nobody needs to look at what was over before a look was due, nor at what was measured to run all the time.
SELECT piece.request_no, piece.visit_no, 'layerline.samples'
FROM measured_piece AS piece LEFT JOIN sampled USING (piece_no)
GROUP BY ALL
HAVING coalesce(sum(looks), 0) > 0 OR sum(length_ns) < 150_000_000 OR sum(off_ns) < 0.2 * sum(length_ns)
UNION ALL
SELECT request_no, visit_no, 'layerline.accept_wait_ns'
FROM measured_piece
GROUP BY ALL
HAVING bool_or(accept_wait_ns IS NOT NULL)
UNION ALL
SELECT visit.request_no, visit.visit_no, 'container events'
FROM measured_visit AS visit JOIN known_container USING (container_id) WHERE described
UNION
-- Whom a process outside of containers calls may be in one.
SELECT request_no, visit_no, 'container events'
FROM measured_piece
JOIN callee USING (piece_no)
LEFT JOIN known_container AS container ON container.container_id = callee.container_id
WHERE described OR NOT answered; -- who did not answer was found by its description
