-- How each operation was hit. In: concerned (affected.sql), asked_trouble.
-- Out: hit, one row per operation, over all of its troubles, each request once; the usual quantiles are of the hour before
-- the first of them, time inside incidents left out, also of the hour.
CREATE OR REPLACE TEMP TABLE hit AS
WITH
whole AS (
    SELECT service, operation, min(start_ns) AS start_ns, arg_min(base_ns, start_ns) AS base_ns,
           CASE WHEN bool_and(end_ns IS NOT NULL) THEN max(end_ns) END AS end_ns,
           list_sort(list_distinct(flatten(list(signs)))) AS signs
    FROM trouble SEMI JOIN asked_trouble USING (trouble)
    GROUP BY service, operation
),
-- A request may belong to two troubles of its operation.
once AS (
    SELECT
        service,
        operation,
        any_value(duration_ns) AS duration_ns,
        any_value(status) AS status,
        bool_or(affected) AS affected
    FROM concerned GROUP BY service, operation, trace_id, span_id
),
during AS (
    SELECT service, operation, count(*) AS requests, count(*) FILTER (affected) AS affected,
           count(*) FILTER (status = 2) AS errors,
           round(quantile_cont(duration_ns, 0.5))::BIGINT AS p50_ns,
           round(quantile_cont(duration_ns, 0.95))::BIGINT AS p95_ns
    FROM once GROUP BY service, operation
),
since AS (
    SELECT whole.service, whole.operation,
           whole.start_ns - 3_600_000_000_000
               - coalesce(sum(least(unusual.end_ns, whole.start_ns) - unusual.start_ns), 0)::BIGINT AS since_ns
    FROM whole
    LEFT JOIN unusual ON unusual.service = whole.service AND unusual.operation = whole.operation
        AND unusual.start_ns < whole.start_ns AND unusual.end_ns > whole.start_ns - 3_600_000_000_000
    GROUP BY whole.service, whole.operation, whole.start_ns
),
before AS (
    SELECT service, operation, round(quantile_cont(request.end_ns - request.start_ns, 0.5))::BIGINT AS p50_ns,
           round(quantile_cont(request.end_ns - request.start_ns, 0.95))::BIGINT AS p95_ns
    FROM whole
    JOIN since USING (service, operation)
    JOIN ordinary_request AS request USING (service, operation)
    WHERE request.end_ns <= whole.start_ns AND request.end_ns > since_ns
    GROUP BY service, operation
)
SELECT service, operation, start_ns, end_ns, signs, base_ns, requests, affected, errors,
       during.p50_ns, during.p95_ns, before.p50_ns AS usual_p50_ns, before.p95_ns AS usual_p95_ns
FROM whole
JOIN during USING (service, operation)
LEFT JOIN before USING (service, operation);
