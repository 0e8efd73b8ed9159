-- How long requests of each operation lost to each cause in each bin of time, in seconds; where minutes are summed up in the
-- minutes in which the time passed, otherwise when the request began. 'unexplained' is what no cause took.
--
-- In: request_beside, part_summed, part_beside (summaries/cover.py); $bin_ns. Out: service, operation, cause, whom it blames by
-- type and name (null where it is nobody), and lists by bin.
WITH
passed AS (
    SELECT
        service, operation, cause, entity_type, entity_id, minute_begins(passed) // $bin_ns AS bin, lost_ns
    FROM part_summed
    UNION ALL
    SELECT
        request.service, operation, part_beside.cause, entity_type, entity_id, request.start_ns // $bin_ns,
        lost_ns * weight
    FROM request_beside AS request JOIN part_beside USING (trace_id, span_id, start_ns)
    UNION ALL
    SELECT service, operation, 'unexplained', NULL, NULL, start_ns // $bin_ns, unexplained_ns * weight
    FROM request_beside WHERE weight > 0
),
added AS (
    SELECT service, operation, cause, entity_type, entity_id, bin, sum(lost_ns)::DOUBLE / 1e9 AS seconds
    FROM passed GROUP BY ALL
)
SELECT
    added.service, operation, cause, entity_type, coalesce(container.name, host.name, entity_id) AS entity,
    list(bin ORDER BY bin), list(seconds ORDER BY bin)
FROM added
LEFT JOIN container ON entity_type = 'container' AND container_id = entity_id
LEFT JOIN host ON entity_type = 'host' AND host.host = entity_id
GROUP BY added.service, operation, cause, entity_type, entity, entity_id ORDER BY ALL;
