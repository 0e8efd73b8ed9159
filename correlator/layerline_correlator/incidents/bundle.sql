-- What else it takes to judge an incident again elsewhere. In: what bundle_traces.sql and
-- bundle_spans.sql made, judged; $most_logs. Out:
-- bundle_resource, bundle_series, bundle_point, bundle_event, bundle_log, bundle_failure, bundle_trouble;
-- bundle_log_left_out(records).
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
