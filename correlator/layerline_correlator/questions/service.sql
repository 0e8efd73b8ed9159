-- One service or operation in a window: how many requests took how long when, and the same by operation, container and
-- version.
--
-- In: wanted_sender (whose requests are wanted); request_summed, request_beside (summaries/cover.py); $origin_ns, $step_ns (the
-- steps), $classes (so many classes of durations are one row of the heatmap).

-- makes: service_row
-- reads: wanted_sender, request_summed, request_beside
CREATE OR REPLACE TEMP TABLE service_row AS
SELECT
    (minute_begins(minute) - $origin_ns) // $step_ns AS step, operation, resource, container_id, first_ns, requests,
    errors, slow, durations, NULL::BIGINT AS duration_ns
FROM request_summed
WHERE row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender)
UNION ALL
SELECT
    (start_ns - $origin_ns) // $step_ns, operation, resource, container_id, start_ns, 1, failed(status)::BIGINT,
    slow::BIGINT, NULL, end_ns - start_ns
FROM request_beside
WHERE row(service, operation, resource, container_id) IN (SELECT sender FROM wanted_sender);

-- How many requests of a step took so long: `level` times $classes is the first of its classes.
-- makes: service_cell
-- reads: service_row
CREATE OR REPLACE TEMP TABLE service_cell AS
SELECT step, class // $classes AS level, sum(number)::BIGINT AS requests
FROM (
    SELECT step, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number
    FROM service_row WHERE durations IS NOT NULL
    UNION ALL
    SELECT step, duration_class(duration_ns), 1 FROM service_row WHERE durations IS NULL
)
GROUP BY ALL;

-- The rows again by what they are told apart by.
-- makes: service_split
-- reads: service_row
CREATE OR REPLACE TEMP TABLE service_split AS
SELECT 'operation' AS what, operation AS name, * EXCLUDE (operation, resource, container_id) FROM service_row
UNION ALL
SELECT 'container', container_id, * EXCLUDE (operation, resource, container_id) FROM service_row
WHERE container_id IS NOT NULL
UNION ALL
SELECT
    'version', coalesce(attributes['service.version'], attributes['container.image.tags']),
    service_row.* EXCLUDE (operation, resource, container_id)
FROM service_row JOIN resource USING (resource)
WHERE coalesce(attributes['service.version'], attributes['container.image.tags']) IS NOT NULL;

-- Quantiles are exact where all rows were read, else those of classes of durations (as in services.sql).
-- makes: service_part
-- reads: service_split
CREATE OR REPLACE TEMP TABLE service_part AS
WITH
is_summed AS (SELECT count(durations) > 0 AS yes FROM service_split),
by_class AS (
    SELECT what, name, class, sum(number) AS number
    FROM (
        SELECT what, name, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number
        FROM service_split WHERE durations IS NOT NULL
        UNION ALL
        SELECT what, name, duration_class(duration_ns), 1 FROM service_split
        WHERE durations IS NULL AND (SELECT yes FROM is_summed)
    )
    GROUP BY ALL
),
ranked AS (
    SELECT *, sum(number) OVER (each ORDER BY class) AS up_to, sum(number) OVER each AS all_requests
    FROM by_class WINDOW each AS (PARTITION BY what, name)
),
quantiles AS (
    SELECT what, name, duration_of(min(class) FILTER (up_to >= 0.5 * all_requests)) AS p50_ns,
           duration_of(min(class) FILTER (up_to >= 0.95 * all_requests)) AS p95_ns
    FROM ranked GROUP BY ALL
    UNION ALL
    SELECT what, name, quantile_disc(duration_ns, 0.5), quantile_disc(duration_ns, 0.95)
    FROM service_split WHERE NOT (SELECT yes FROM is_summed) GROUP BY ALL
)
SELECT
    what, name, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, sum(slow)::BIGINT AS slow,
    any_value(p50_ns) AS p50_ns, any_value(p95_ns) AS p95_ns, min(first_ns)::BIGINT AS first_ns
FROM service_split JOIN quantiles USING (what, name)
GROUP BY what, name;
