-- Requests, their parts, where they spent their time and what was blind in them, summed up per minute of their start.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted).
CREATE OR REPLACE TEMP TABLE summed_request AS
SELECT
    minute_of(start_ns) AS minute, weight, planned, trace_id, span_id, start_ns, end_ns, service, operation, root,
    resource, container_id, host, status, slow, unexplained_ns
FROM request
WHERE start_ns >= $from_ns AND start_ns < $to_ns AND minute_of(start_ns) IN (SELECT unnest($minutes::BIGINT[]));

INSERT INTO request_minute BY NAME
WITH caller AS (  -- two spans of one sender may share an id and a start: the request is one
    SELECT DISTINCT trace_id, span_id, start_ns, resource FROM span
    WHERE start_ns >= $from_ns AND start_ns < $to_ns AND parent_span_id IS NOT NULL
)
SELECT
    minute, service, operation, root, summed_request.resource, container_id, host, count(*) AS requests,
    count(*) FILTER (failed(status)) AS errors, count(*) FILTER (slow) AS slow,
    count(*) FILTER (root AND caller.trace_id IS NOT NULL) AS orphans, count(*) FILTER (planned = 0) AS left_out,
    sum(weight) AS weight, min(summed_request.start_ns) AS first_ns, max(summed_request.start_ns) AS last_ns,
    sum((end_ns - summed_request.start_ns)::HUGEINT) AS duration_ns, sum(unexplained_ns * weight) AS unexplained_ns,
    histogram(duration_class(end_ns - summed_request.start_ns)) AS durations
FROM summed_request
LEFT JOIN caller
    ON caller.trace_id = summed_request.trace_id AND caller.span_id = summed_request.span_id
    AND caller.start_ns = summed_request.start_ns AND caller.resource = summed_request.resource
GROUP BY ALL ORDER BY minute, service, operation;

-- A request of more than a day is spread over its first day only.
INSERT INTO part_minute BY NAME
WITH
lost AS (
    SELECT
        minute, summed_request.service, operation, root, resource, container_id, host, weight, cause, entity_type,
        entity_id, summed_request.start_ns, end_ns, trace_id, span_id,
        sum(lost_ns) AS lost_ns, sum(low_ns) AS low_ns, sum(high_ns) AS high_ns
    FROM summed_request
    JOIN (FROM part WHERE start_ns >= $from_ns AND start_ns < $to_ns) AS part USING (trace_id, span_id, start_ns)
    GROUP BY ALL
    UNION ALL
    SELECT
        minute, service, operation, root, resource, container_id, host, weight, 'unexplained', NULL, NULL, start_ns,
        end_ns, trace_id, span_id, unexplained_ns, unexplained_ns, unexplained_ns
    FROM summed_request WHERE weight > 0
),
spread AS (
    SELECT
        lost.* REPLACE (greatest(end_ns, start_ns + 1) AS end_ns),
        unnest(range(minute, least(minute + 1440, minute_of(greatest(end_ns, start_ns + 1) - 1) + 1))) AS passed
    FROM lost
),
share AS (
    SELECT
        *, weight * overlap_ns(start_ns, end_ns, minute_begins(passed), minute_begins(passed + 1)) / (end_ns - start_ns)
            AS share
    FROM spread
)
SELECT
    minute, passed, service, operation, root, resource, container_id, host, cause, entity_type, entity_id,
    count(*) FILTER (passed = minute) AS requests, coalesce(sum(weight) FILTER (passed = minute), 0) AS weight,
    sum(lost_ns * share)::DOUBLE AS lost_ns, sum(low_ns * share)::DOUBLE AS low_ns,
    sum(high_ns * share)::DOUBLE AS high_ns
FROM share
GROUP BY ALL ORDER BY minute, service, operation;

INSERT INTO stay_minute BY NAME
SELECT
    minute, request.service, operation, root, resource, request.container_id, request.host,
    stay.service AS at_service, stay.container_id AS at_container_id, stay.host AS at_host,
    round(sum(own_ns * weight))::HUGEINT AS own_ns, round(sum(open_ns * weight))::HUGEINT AS open_ns,
    round(sum(ready_ns * weight))::HUGEINT AS ready_ns
FROM summed_request AS request
JOIN (FROM stay WHERE start_ns >= $from_ns AND start_ns < $to_ns) AS stay USING (trace_id, span_id, start_ns)
GROUP BY ALL ORDER BY minute, service, operation;

INSERT INTO blind_minute BY NAME
WITH
unseen AS (
    SELECT minute, request.service AS request_service, weight, blind.*
    FROM (FROM blind WHERE start_ns >= $from_ns AND start_ns < $to_ns) AS blind
    JOIN summed_request AS request USING (trace_id, span_id, start_ns)
),
once AS (SELECT DISTINCT minute, request_service, cause, trace_id, span_id, start_ns, weight FROM unseen)
SELECT
    minute, request_service, cause, FALSE AS anywhere, service, facts, why, foreign_readings, host, agent_reads,
    sum(weight) AS requests
FROM unseen GROUP BY ALL
UNION ALL BY NAME
SELECT minute, request_service, cause, TRUE AS anywhere, sum(weight) AS requests FROM once GROUP BY ALL
ORDER BY minute, request_service, cause;

DROP TABLE summed_request;
