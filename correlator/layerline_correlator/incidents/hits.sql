-- How each operation was hit. In: concerned (affected.sql), asked_trouble.
-- Out: hit, one row per trouble; the usual quantiles are of the hour before it, time inside incidents left out,
-- also of the hour.
CREATE OR REPLACE TEMP TABLE hit AS
WITH
during AS (
    SELECT trouble, count(*) AS requests, count(*) FILTER (affected) AS affected, count(*) FILTER (status = 2) AS errors,
           round(quantile_cont(duration_ns, 0.5))::BIGINT AS p50_ns, round(quantile_cont(duration_ns, 0.95))::BIGINT AS p95_ns
    FROM concerned GROUP BY trouble
),
since AS (
    SELECT trouble.trouble,
           trouble.start_ns - 3_600_000_000_000
               - coalesce(sum(least(unusual.end_ns, trouble.start_ns) - unusual.start_ns), 0)::BIGINT AS since_ns
    FROM trouble
    SEMI JOIN asked_trouble USING (trouble)
    LEFT JOIN unusual ON unusual.service = trouble.service AND unusual.operation = trouble.operation
        AND unusual.start_ns < trouble.start_ns AND unusual.end_ns > trouble.start_ns - 3_600_000_000_000
    GROUP BY trouble.trouble, trouble.start_ns
),
before AS (
    SELECT trouble, round(quantile_cont(request.end_ns - request.start_ns, 0.5))::BIGINT AS p50_ns,
           round(quantile_cont(request.end_ns - request.start_ns, 0.95))::BIGINT AS p95_ns
    FROM trouble
    JOIN since USING (trouble)
    JOIN ordinary_request AS request ON request.service = trouble.service AND request.operation = trouble.operation
        AND request.end_ns <= trouble.start_ns AND request.end_ns > since_ns
    GROUP BY trouble
)
SELECT trouble.trouble, service, operation, start_ns, end_ns, signs, base_ns, requests, affected, errors,
       during.p50_ns, during.p95_ns, before.p50_ns AS usual_p50_ns, before.p95_ns AS usual_p95_ns
FROM trouble
SEMI JOIN asked_trouble USING (trouble)
JOIN during USING (trouble)
LEFT JOIN before USING (trouble);
