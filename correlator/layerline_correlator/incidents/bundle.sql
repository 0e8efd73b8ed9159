-- What it takes to judge an incident again elsewhere. In: judged(trace_id, span_id, start_ns) (verdict.py), usual, recent_request
-- (usual.sql); $most_logs. Out: bundle_span, bundle_resource, bundle_series, bundle_point, bundle_event, bundle_log,
-- bundle_failure, bundle_trouble; bundle_log_left_out(records).
CREATE OR REPLACE TEMP TABLE bundle_trace AS
SELECT DISTINCT trace_id FROM judged
UNION
SELECT DISTINCT trace_id
FROM recent_request
JOIN
    (SELECT service, operation, min(first_place) AS first_place, max(last_place) AS last_place FROM usual GROUP BY ALL
    ) AS compared
    USING (service, operation)
WHERE place BETWEEN compared.first_place AND compared.last_place;

-- Who else waited in a container that was late to begin or to answer: held_up.sql takes it off, within a reading's interval.
CREATE OR REPLACE TEMP TABLE bundle_beside AS
WITH
late AS (
    SELECT DISTINCT
        resource.container_id,
        unnest(range(caller.start_ns // 1_000_000_000 - 5,
                     least(caller.end_ns, caller.start_ns + 3_600_000_000_000) // 1_000_000_000 + 6)) AS second
    FROM span AS caller
    SEMI JOIN bundle_trace ON bundle_trace.trace_id = caller.trace_id
    JOIN span AS answer ON answer.trace_id = caller.trace_id AND answer.parent_span_id = caller.span_id
        AND answer.resource <> caller.resource
    JOIN resource ON resource.resource = answer.resource
    WHERE caller.kind = 3 AND caller.end_ns - caller.start_ns > answer.end_ns - answer.start_ns + 10_000_000
)
SELECT DISTINCT trace_id, span_id
FROM (
    SELECT trace_id, span_id, container_id,
           unnest(range(start_ns // 1_000_000_000, least(end_ns, start_ns + 3_600_000_000_000) // 1_000_000_000 + 1))
               AS second
    FROM span JOIN resource ON resource.resource = span.resource
    WHERE thread_runqueue_ns > 0 AND container_id IN (SELECT container_id FROM late)
      AND start_ns BETWEEN (SELECT min(second) - 60 FROM late
      ) * 1_000_000_000 AND (SELECT max(second) + 1 FROM late
      ) * 1_000_000_000
) SEMI JOIN late USING (container_id, second);

CREATE OR REPLACE TEMP TABLE bundle_span AS
SELECT span.* FROM span
WHERE trace_id IN (FROM bundle_trace) OR (trace_id, span_id) IN (FROM bundle_beside)
ORDER BY start_ns, trace_id, span_id;

CREATE OR REPLACE TEMP TABLE bundle_time AS
SELECT min(start_ns) - 130_000_000_000 AS from_ns, max(end_ns) + 130_000_000_000 AS to_ns FROM bundle_span;

CREATE OR REPLACE TEMP TABLE bundle_host AS
SELECT DISTINCT host FROM (
    SELECT resource.host FROM bundle_span JOIN resource ON resource.resource = bundle_span.resource
    UNION ALL
    SELECT request.host FROM request SEMI JOIN bundle_trace ON bundle_trace.trace_id = request.trace_id)
WHERE host IS NOT NULL;

CREATE OR REPLACE TEMP TABLE bundle_series AS
SELECT series.* FROM series WHERE host IS NULL OR host IN (FROM bundle_host) ORDER BY series;

CREATE OR REPLACE TEMP TABLE bundle_point AS
SELECT point.* FROM point SEMI JOIN bundle_series USING (series), bundle_time
WHERE time_ns BETWEEN from_ns AND to_ns ORDER BY series, time_ns;

CREATE OR REPLACE TEMP TABLE bundle_event AS
SELECT event.*
FROM event, bundle_time
WHERE time_ns BETWEEN from_ns - 3_600_000_000_000 AND to_ns
ORDER BY time_ns, resource, name;

-- What was logged in these traces, errors first where there is more than a bundle takes. It was masked when it arrived.
CREATE OR REPLACE TEMP TABLE bundle_log AS
SELECT * FROM (
    SELECT log.* FROM log SEMI JOIN bundle_trace ON bundle_trace.trace_id = log.trace_id
    ORDER BY is_error(severity) DESC, time_ns, resource, log.trace_id, span_id, body LIMIT $most_logs
) ORDER BY time_ns, resource, trace_id, span_id, body;

CREATE OR REPLACE TEMP TABLE bundle_log_left_out AS
SELECT count(*) - (SELECT count(*) FROM bundle_log) AS records
FROM log SEMI JOIN bundle_trace ON bundle_trace.trace_id = log.trace_id;

-- Why these requests failed, as it was worked out here: to be compared, not to be filled in.
CREATE OR REPLACE TEMP TABLE bundle_failure AS
SELECT failure.* FROM failure SEMI JOIN bundle_trace ON bundle_trace.trace_id = failure.trace_id
ORDER BY start_ns, trace_id, span_id;

-- Names of the dead are asked for too.
CREATE OR REPLACE TEMP TABLE bundle_resource AS
SELECT resource.* FROM resource
WHERE host IS NULL OR host IN (FROM bundle_host) OR resource IN (SELECT resource FROM bundle_span)
   OR resource IN (SELECT resource FROM bundle_event) OR resource IN (SELECT resource FROM bundle_log)
ORDER BY seen_ns, resource;

-- What an operation did inside any incident is not its usual.
CREATE OR REPLACE TEMP TABLE bundle_trouble AS
SELECT trouble.* FROM trouble
WHERE EXISTS (FROM judged JOIN request USING (trace_id, span_id, start_ns)
              WHERE request.service = trouble.service AND request.operation = trouble.operation)
ORDER BY start_ns, trouble;
