-- Where the time of the services shown went, by layer: in the window and in the time before it.
--
-- In: as overview.sql, of both times together; overview_service (which it made).

-- makes: overview_layer
-- reads: wanted_sender, overview_service, request_summed, request_beside, part_summed, part_beside
CREATE OR REPLACE TEMP TABLE overview_layer AS
WITH
shown AS (SELECT service FROM overview_service WHERE place <= $limit),
summed AS (
    SELECT service, minute_begins(minute) >= $from_ns AS is_now, weight
    FROM request_summed
    WHERE NOT $filtered OR row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender)
),
row_by_row AS (
    SELECT service, start_ns >= $from_ns AS is_now, weight, unexplained_ns, trace_id, span_id, start_ns
    FROM request_beside
    WHERE weight > 0
      AND (NOT $filtered OR row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender))
),
stands_for AS (
    SELECT service, is_now, sum(weight) AS weight
    FROM (
        SELECT service, is_now, weight FROM summed
        UNION ALL
        SELECT service, is_now, weight FROM row_by_row
    )
    GROUP BY ALL
),
lost AS (
    SELECT service, minute_begins(minute) >= $from_ns AS is_now, cause, lost_ns
    FROM part_summed
    WHERE NOT $filtered OR row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender)
    UNION ALL
    SELECT row_by_row.service, is_now, cause, lost_ns * weight
    FROM part_beside JOIN row_by_row USING (trace_id, span_id, start_ns)
    UNION ALL
    SELECT service, is_now, 'unexplained', unexplained_ns * weight FROM row_by_row
)
SELECT
    lost.service, lost.is_now, split_part(cause, '.', 1) AS layer,
    (sum(lost_ns) / any_value(weight))::DOUBLE AS lost_ns, any_value(weight) AS requests
FROM lost
JOIN stands_for USING (service, is_now)
SEMI JOIN shown USING (service)
WHERE weight > 0
GROUP BY ALL;
