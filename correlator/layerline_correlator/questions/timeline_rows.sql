-- A timeline's requests and readings, row by row. The parameters are those of timeline.sql.

-- ---- requests: of an operation, of what was asked for, else all that came in from outside

-- makes: shown_request
-- reads: picked, asked_entity
CREATE OR REPLACE TEMP TABLE shown_request AS
SELECT trace_id, span_id, service, start_ns, end_ns, status, slow, unexplained_ns, container_id, host, weight
FROM request
WHERE start_ns < $to_ns AND end_ns >= $from_ns
  AND ($service IS NULL OR service = $service)
  AND ($operation IS NULL OR operation = $operation)
  AND (NOT $by_tag OR row(resource, container_id) IN (SELECT row(resource, container_id) FROM picked))
  AND ($entity_type IS NULL
       OR container_id IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'container')
       OR host IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'host'))
  AND (root OR NOT $everything);

-- makes: request_step
-- reads: shown_request
CREATE OR REPLACE TEMP TABLE request_step AS
SELECT
    (start_ns - $from_ns) // $step_ns AS step,
    count(*) AS requests, count(*) FILTER (failed(status)) AS errors, count(*) FILTER (slow) AS slow,
    quantile_cont(end_ns - start_ns, [0.5, 0.95, 0.99])::BIGINT[] AS latency
FROM shown_request
WHERE start_ns >= $from_ns AND start_ns < $to_ns
GROUP BY ALL;

-- ---- causes: each part spread evenly over its request's duration, in seconds lost per second; a ledger counts for
-- as many requests as it stands for

-- makes: cause_step
-- reads: shown_request
CREATE OR REPLACE TEMP TABLE cause_step AS
WITH
lost AS (
    SELECT
        cause, sum(lost_ns * weight) AS lost_ns,
        request.trace_id, request.span_id, request.start_ns, any_value(end_ns) AS end_ns
    FROM shown_request AS request JOIN part USING (trace_id, span_id, start_ns)
    GROUP BY ALL
    UNION ALL
    SELECT 'unexplained', unexplained_ns * weight, trace_id, span_id, start_ns, end_ns
    FROM shown_request WHERE weight > 0
),
spread AS (
    SELECT
        cause, lost_ns, start_ns, greatest(end_ns, start_ns + 1) AS end_ns,
        unnest(range((greatest(start_ns, $from_ns) - $from_ns) // $step_ns,
                     (least(greatest(end_ns, start_ns + 1), $to_ns) - 1 - $from_ns) // $step_ns + 1)) AS step
    FROM lost
)
SELECT
    cause, step,
    sum(lost_ns * ((least(end_ns, $from_ns + (step + 1) * $step_ns) - greatest(start_ns, $from_ns + step * $step_ns))
                   / (end_ns - start_ns))) / $step_ns AS lost
FROM spread
GROUP BY ALL;

-- makes: request_weight
-- reads: shown_request
CREATE OR REPLACE TEMP TABLE request_weight AS
WITH
mine AS (FROM shown_request WHERE $trace_id IS NULL OR trace_id = $trace_id),
stayed AS (SELECT stay.* FROM stay JOIN mine USING (trace_id, span_id, start_ns))
SELECT 'container' AS entity_type, container_id AS entity_id, own_ns::DOUBLE AS weight FROM stayed
UNION ALL
SELECT 'host', host, own_ns FROM stayed
UNION ALL
SELECT 'container', container_id, 0 FROM mine
UNION ALL
SELECT 'host', host, 0 FROM mine
UNION ALL
SELECT entity_type, entity_id, lost_ns FROM part JOIN mine USING (trace_id, span_id, start_ns)
WHERE entity_type IN ('container', 'host')
UNION ALL
SELECT DISTINCT 'service', service, 0 FROM mine;

-- Who was read in the window, and how much it ran.
-- makes: read_entity
CREATE OR REPLACE TEMP TABLE read_entity AS
SELECT entity_type, entity_id, sum(rise) FILTER (signal = 'container.cpu.time') AS ran
FROM (
    SELECT entity_type, entity_id, signal, max(value) - min(value) AS rise
    FROM point JOIN series USING (series)
    WHERE time_ns >= $from_ns AND time_ns < $to_ns
    GROUP BY entity_type, entity_id, signal, series
)
GROUP BY ALL;

-- ---- readings

-- What each value says of a stretch of time: how much a counter grew since the last, what a gauge held until the next.
-- A stretch much longer than the usual ones of its line is one in which nobody looked: a gap.
-- makes: shown_reading
-- reads: wanted_series
-- only with: wanted_series
CREATE OR REPLACE TEMP TABLE shown_reading AS
WITH
stretches AS (
    SELECT line, FALSE AS is_level, from_ns, to_ns, rise AS amount
    FROM rises_of((SELECT list(series) FROM wanted_series WHERE kind <> 'gauge'), $since_ns, $until_ns)
    UNION ALL
    SELECT line, TRUE, from_ns, to_ns, value
    FROM levels_of((SELECT list(series) FROM wanted_series WHERE kind = 'gauge'), $since_ns, $until_ns)
),
steps AS (
    SELECT line, CASE WHEN count(*) > 1 THEN quantile_disc(to_ns - from_ns, 0.5) END AS usual_ns
    FROM stretches GROUP BY line
),
ended AS (
    SELECT
        stretches.* REPLACE (
            -- A level that nobody confirmed again held for one usual step.
            CASE WHEN is_level AND to_ns - from_ns > most_ns THEN from_ns + coalesce(usual_ns, 1) ELSE to_ns END
                AS to_ns
        ),
        most_ns
    FROM stretches
    JOIN (
        SELECT
            *,
            least(longest_interval_ns(), greatest(seconds_long(5), $coarse_ns, 3 * coalesce(usual_ns, 0))) AS most_ns
        FROM steps
    ) USING (line)
)
SELECT * EXCLUDE (most_ns) FROM ended
WHERE to_ns > from_ns AND to_ns - from_ns <= most_ns AND from_ns < $to_ns AND to_ns > $from_ns;
