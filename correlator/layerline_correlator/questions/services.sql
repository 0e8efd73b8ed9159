-- How many requests each service answered in a window, how slow, and who called whom: two statements.
--
-- In: request_summed, request_beside, edge_summed, call_beside (summaries/cover.py). Where minutes are summed up, quantiles
-- are those of classes of durations (duration_class), otherwise exact.

-- Out: service, requests, errors, p50_ns, p95_ns.
WITH
summed AS (
    SELECT service, requests, errors, durations FROM request_summed
),
row_by_row AS (
    SELECT service, status, end_ns - start_ns AS duration_ns FROM request_beside
),
counted AS (
    SELECT service, sum(requests) AS requests, sum(errors) AS errors FROM summed GROUP BY service
    UNION ALL
    SELECT service, count(*), count(*) FILTER (failed(status)) FROM row_by_row GROUP BY service
),
by_class AS (
    SELECT service, class, sum(requests) AS requests FROM (
        SELECT service, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS requests FROM summed
        UNION ALL
        SELECT service, duration_class(duration_ns), 1 FROM row_by_row WHERE EXISTS (FROM summed)
    ) GROUP BY ALL
),
ranked AS (
    SELECT service, class, sum(requests) OVER (PARTITION BY service ORDER BY class) AS up_to,
           sum(requests) OVER (PARTITION BY service) AS all_requests
    FROM by_class
),
quantiles AS (
    SELECT service, duration_of(min(class) FILTER (up_to >= 0.5 * all_requests)) AS p50_ns,
           duration_of(min(class) FILTER (up_to >= 0.95 * all_requests)) AS p95_ns
    FROM ranked GROUP BY service
    UNION ALL
    SELECT service, quantile_disc(duration_ns, 0.5), quantile_disc(duration_ns, 0.95)
    FROM row_by_row WHERE NOT EXISTS (FROM summed) GROUP BY service
)
SELECT service, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, any_value(p50_ns), any_value(p95_ns)
FROM counted JOIN quantiles USING (service)
GROUP BY service ORDER BY service;

-- Out: caller, callee_type ('service': its spans were received; 'dependency': seen only from outside), callee (service
-- name; server.address:server.port), calls, errors, p50_ns and p95_ns of the caller's span.
WITH
summed AS (
    SELECT caller, callee_type, callee, calls, errors, durations FROM edge_summed
),
row_by_row AS MATERIALIZED (
    FROM call_beside
),
counted AS (
    SELECT caller, callee_type, callee, sum(calls) AS calls, sum(errors) AS errors FROM summed GROUP BY ALL
    UNION ALL
    SELECT caller, callee_type, callee, count(*), count(*) FILTER (failed(status)) FROM row_by_row GROUP BY ALL
),
by_class AS (
    SELECT caller, callee_type, callee, class, sum(calls) AS calls FROM (
        SELECT caller, callee_type, callee, unnest(map_keys(durations)) AS class,
               unnest(map_values(durations)) AS calls
        FROM summed
        UNION ALL
        SELECT caller, callee_type, callee, duration_class(duration_ns), 1
        FROM row_by_row WHERE EXISTS (FROM summed)
    ) GROUP BY ALL
),
ranked AS (
    SELECT caller, callee_type, callee, class, sum(calls) OVER (each ORDER BY class) AS up_to,
           sum(calls) OVER each AS all_calls
    FROM by_class WINDOW each AS (PARTITION BY caller, callee_type, callee)
),
quantiles AS (
    SELECT caller, callee_type, callee, duration_of(min(class) FILTER (up_to >= 0.5 * all_calls)) AS p50_ns,
           duration_of(min(class) FILTER (up_to >= 0.95 * all_calls)) AS p95_ns
    FROM ranked GROUP BY ALL
    UNION ALL
    SELECT caller, callee_type, callee, quantile_disc(duration_ns, 0.5), quantile_disc(duration_ns, 0.95)
    FROM row_by_row WHERE NOT EXISTS (FROM summed) GROUP BY ALL
)
SELECT
    caller, callee_type, callee, sum(calls)::BIGINT AS calls, sum(errors)::BIGINT AS errors, any_value(p50_ns),
    any_value(p95_ns)
FROM counted JOIN quantiles USING (caller, callee_type, callee)
GROUP BY caller, callee_type, callee
ORDER BY calls DESC, caller, callee;
