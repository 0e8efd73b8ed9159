-- An overview of services: how many requests each answered per step of a window, how slow, and where their time went by
-- layer, now and in the time before.
--
-- In: wanted_sender (whose requests are wanted; looked at where $filtered); request_summed, request_beside, part_summed,
-- part_beside (summaries/cover.py; of the window for the first three steps, with the time before it for the last);
-- $origin_ns, $step_ns (the steps), $from_ns (with it the window begins), $search (part of a name, in lower case).

-- Requests of a service in a step, by class of duration; row by row without a class.
-- makes: overview_row
-- reads: wanted_sender, request_summed, request_beside
CREATE OR REPLACE TEMP TABLE overview_row AS
SELECT
    service, (minute_begins(minute) - $origin_ns) // $step_ns AS step, requests, errors, slow, durations,
    NULL::BIGINT AS duration_ns
FROM request_summed
WHERE (NOT $filtered OR row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender))
  AND contains(lower(service), $search)
UNION ALL
SELECT
    service, (start_ns - $origin_ns) // $step_ns, 1, failed(status)::BIGINT, slow::BIGINT, NULL, end_ns - start_ns
FROM request_beside
WHERE (NOT $filtered OR row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender))
  AND contains(lower(service), $search);

-- Each service in the whole window; those with trouble first.
-- makes: overview_service
-- reads: overview_row
CREATE OR REPLACE TEMP TABLE overview_service AS
SELECT
    service, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, sum(slow)::BIGINT AS slow,
    row_number() OVER (ORDER BY sum(slow) + sum(errors) DESC, sum(requests) DESC, service) AS place
FROM overview_row GROUP BY service;

-- Of each service shown, per step and (step null) over the window: counts and the quantiles 0.5, 0.95 and 0.99. They are
-- exact where all rows were read, else those of classes of durations (as in services.sql).
-- makes: overview_step
-- reads: overview_row, overview_service
CREATE OR REPLACE TEMP TABLE overview_step AS
WITH
shown AS (SELECT * FROM overview_row SEMI JOIN (FROM overview_service WHERE place <= $limit) USING (service)),
is_summed AS (SELECT count(durations) > 0 AS yes FROM shown),
by_class AS (
    SELECT service, step, class, sum(number) AS number
    FROM (
        SELECT service, step, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number
        FROM shown WHERE durations IS NOT NULL
        UNION ALL
        SELECT service, step, duration_class(duration_ns), 1 FROM shown
        WHERE durations IS NULL AND (SELECT yes FROM is_summed)
    )
    GROUP BY GROUPING SETS ((service, step, class), (service, class))
),
ranked AS (
    SELECT *, sum(number) OVER (PARTITION BY service, step ORDER BY class) AS up_to,
           sum(number) OVER (PARTITION BY service, step) AS all_requests
    FROM by_class
),
quantiles AS (
    SELECT
        service, step,
        [duration_of(min(class) FILTER (up_to >= 0.5 * all_requests)),
         duration_of(min(class) FILTER (up_to >= 0.95 * all_requests)),
         duration_of(min(class) FILTER (up_to >= 0.99 * all_requests))] AS latency
    FROM ranked GROUP BY service, step
    UNION ALL
    SELECT service, step, quantile_disc(duration_ns, [0.5, 0.95, 0.99])
    FROM shown WHERE NOT (SELECT yes FROM is_summed)
    GROUP BY GROUPING SETS ((service, step), (service))
),
counted AS (
    SELECT service, step, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors
    FROM shown GROUP BY GROUPING SETS ((service, step), (service))
)
SELECT counted.service, counted.step, requests, errors, latency
FROM counted
JOIN quantiles ON quantiles.service = counted.service AND quantiles.step IS NOT DISTINCT FROM counted.step;
