-- What failed: for every request that failed, the deepest span on the way down that failed too, and what is said of it.

-- makes: failed_span
-- reads: node
-- only where: node: failed(status)
CREATE OR REPLACE TEMP TABLE failed_span AS
SELECT
    span_no, parent_no, trace_id, span_id, start_ns, end_ns, coalesce(service, '') AS service, name, kind,
    container_id, host, attributes, exception, nullif(status_message, '') AS status_message,
    coalesce('HTTP ' || http_code(attributes), 'gRPC ' || grpc_code(attributes)) AS status_code,
    -- A status code as the type of an error says nothing that the code does not say (OpenTelemetry, `error.type`).
    CASE WHEN attributes['error.type'] = '_OTHER' OR regexp_full_match(attributes['error.type'], '\d+') THEN NULL
         ELSE nullif(attributes['error.type'], '') END AS error_type
FROM node
WHERE failed(status);

-- What each span that failed was made to fail by: of the failed spans below it, with none between that failed or said OK,
-- the one that ended last. A call that was made again later, and did not fail then, is not it.
-- makes: failed_by
-- reads: node, failed_span
-- only with: failed_span
CREATE OR REPLACE TEMP TABLE failed_by AS
WITH RECURSIVE
made_again AS (
    SELECT parent_no, name, coalesce(called_address(attributes), '') AS address, max(start_ns) AS start_ns
    FROM node
    WHERE NOT failed(status) AND parent_no IN (SELECT parent_no FROM failed_span)
    GROUP BY ALL
),
decisive AS (
    SELECT failed_span.*
    FROM failed_span
    LEFT JOIN made_again ON made_again.parent_no = failed_span.parent_no AND made_again.name = failed_span.name
        AND made_again.address = coalesce(called_address(failed_span.attributes), '')
    WHERE made_again.start_ns IS NULL OR made_again.start_ns < failed_span.end_ns
),
up AS (
    SELECT span_no, parent_no AS above_no, 0 AS steps FROM decisive WHERE parent_no IS NOT NULL
    UNION ALL
    SELECT up.span_no, node.parent_no, steps + 1
    FROM up JOIN node ON node.span_no = up.above_no
    WHERE node.status = 0 AND node.parent_no IS NOT NULL AND steps < 100
)
SELECT failed_span.span_no, decisive.span_no AS by_no
FROM up
JOIN failed_span ON failed_span.span_no = up.above_no
JOIN decisive ON decisive.span_no = up.span_no
QUALIFY row_number() OVER (
    PARTITION BY failed_span.span_no ORDER BY decisive.end_ns DESC, decisive.start_ns DESC, decisive.span_no) = 1;

-- The last error that was logged within each span, and (without `span_id`) within each trace, of those that something
-- failed in.
-- makes: logged_error
-- reads: failed_span
-- only with: failed_span
CREATE OR REPLACE TEMP TABLE logged_error AS
WITH errors AS (
    SELECT
        log.trace_id, log.span_id, log.time_ns,
        {'type': log.attributes['exception.type'],
         'message': coalesce(nullif(log.attributes['exception.message'], ''), nullif(log.body, ''))} AS said
    FROM log SEMI JOIN failed_span ON failed_span.trace_id = log.trace_id
    WHERE is_error(log.severity) AND log.time_ns BETWEEN $from_ns AND $to_ns
)
SELECT trace_id, span_id, arg_max(said, time_ns) AS said FROM errors WHERE span_id IS NOT NULL GROUP BY ALL
UNION ALL
SELECT trace_id, NULL, arg_max(said, time_ns) FROM errors GROUP BY ALL;

-- The way down from each request that failed, through the spans that made it fail.
-- makes: way_down
-- reads: entry, failed_span, failed_by
-- only with: failed_span
CREATE OR REPLACE TEMP TABLE way_down AS
WITH RECURSIVE down AS (
    SELECT request_no, span_no, 0 AS depth FROM entry WHERE failed(status)
    UNION ALL
    SELECT down.request_no, failed_by.by_no, depth + 1
    FROM down JOIN failed_by ON failed_by.span_no = down.span_no
    WHERE depth < 1000
)
SELECT request_no, depth, failed_span.* FROM down JOIN failed_span ON failed_span.span_no = down.span_no;

-- One row for each request that failed. What the deepest span does not say, the next one above it says; an exception that
-- was recorded goes before what was logged, and that before the message of the status.
-- makes: request_failure
-- reads: entry, node, way_down, logged_error
-- only with: way_down
CREATE OR REPLACE TEMP TABLE request_failure AS
WITH
said AS (
    SELECT
        request_no, max(depth) AS depth,
        arg_max(exception, depth) FILTER (exception IS NOT NULL)           AS exception,
        arg_max(logged_error.said, depth) FILTER (logged_error.said IS NOT NULL) AS logged,
        arg_max(status_code, depth) FILTER (status_code IS NOT NULL)       AS status_code,
        arg_max(service, depth) FILTER (status_code IS NOT NULL)           AS status_of,
        arg_max(status_message, depth) FILTER (status_message IS NOT NULL) AS status_message,
        arg_max(error_type, depth) FILTER (error_type IS NOT NULL)         AS error_type
    FROM way_down
    LEFT JOIN logged_error ON logged_error.trace_id = way_down.trace_id AND logged_error.span_id = way_down.span_id
    GROUP BY request_no
),
passed AS (
    SELECT request_no, list(service ORDER BY depth) AS services
    FROM (SELECT request_no, service, min(depth) AS depth FROM way_down GROUP BY ALL)
    GROUP BY request_no
),
-- Who answered, where it did not fail in its own eyes: a 404 is an error of whoever asked.
answered AS (
    SELECT parent_no AS span_no, min(service) AS service FROM node WHERE crosses AND parent_no IS NOT NULL GROUP BY ALL
),
worded AS (
    SELECT said.*, coalesce(said.logged, of_trace.said) AS told
    FROM said
    JOIN entry ON entry.request_no = said.request_no
    LEFT JOIN logged_error AS of_trace ON of_trace.trace_id = entry.trace_id AND of_trace.span_id IS NULL
)
SELECT
    entry.request_no, entry.trace_id, entry.span_id, entry.start_ns - entry.shift_ns AS start_ns,
    coalesce(worded.exception."type", CASE WHEN worded.exception IS NULL THEN told."type" END, worded.error_type)
        AS type,
    left(coalesce(nullif(worded.exception.message, ''), CASE WHEN worded.exception IS NULL THEN told.message END,
                  worded.status_message), 1000) AS message,
    worded.status_code, worded.status_of,
    CASE WHEN worded.exception IS NOT NULL THEN 'exception' WHEN told IS NOT NULL THEN 'log' ELSE 'status' END
        AS said_by,
    deepest.span_id AS failed_span_id, deepest.name AS failed_name, deepest.service,
    deepest.container_id, deepest.host,
    CASE WHEN is_caller(deepest.kind) THEN coalesce(
        answered.service, nullif(called_address(deepest.attributes), ''), called_system(deepest.attributes),
        deepest.name) END AS dependency,
    CASE WHEN is_caller(deepest.kind) AND answered.service IS NULL THEN called_system(deepest.attributes) END
        AS dependency_system,
    passed.services
FROM worded
JOIN passed ON passed.request_no = worded.request_no
JOIN entry ON entry.request_no = worded.request_no
JOIN way_down AS deepest ON deepest.request_no = worded.request_no AND deepest.depth = worded.depth
LEFT JOIN answered ON answered.span_no = deepest.span_no;
