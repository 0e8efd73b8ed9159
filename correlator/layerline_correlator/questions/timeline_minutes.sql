-- A timeline's requests and readings where its steps are whole minutes: from what is summed up of them, and row by row where
-- nothing is (summaries/cover.py). The parameters are those of timeline.sql; requests are covered from an hour before it.

-- Whose requests are shown: those of an operation, of what was asked for, else all that came in from outside.
-- makes: shown_sender
-- reads: picked, asked_entity, request_summed, request_beside
CREATE OR REPLACE TEMP TABLE shown_sender AS
SELECT DISTINCT row(service, operation, root, resource, container_id, host) AS sender
FROM (
    SELECT service, operation, root, resource, container_id, host FROM request_summed
    UNION
    SELECT service, operation, root, resource, container_id, host FROM request_beside
)
WHERE ($service IS NULL OR service = $service)
  AND ($operation IS NULL OR operation = $operation)
  AND (NOT $by_tag OR row(resource, container_id) IN (SELECT row(resource, container_id) FROM picked))
  AND ($entity_type IS NULL
       OR container_id IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'container')
       OR host IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'host'))
  AND (root OR NOT $everything);

-- The rows beside.
-- makes: beside_request
-- reads: shown_sender, request_beside
CREATE OR REPLACE TEMP TABLE beside_request AS
SELECT trace_id, span_id, service, start_ns, end_ns, status, slow, unexplained_ns, container_id, host, weight
FROM request_beside
WHERE start_ns < $to_ns AND end_ns >= $from_ns
  AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender);

-- makes: request_step
-- reads: shown_sender, request_summed, beside_request
CREATE OR REPLACE TEMP TABLE request_step AS
WITH
by_minute AS (
    SELECT (minute_begins(minute) - $from_ns) // $step_ns AS step, requests, errors, slow, durations
    FROM request_summed
    WHERE minute_begins(minute) >= $from_ns AND minute_begins(minute) < $to_ns
      AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender)
    UNION ALL
    SELECT
        (start_ns - $from_ns) // $step_ns AS step, count(*), count(*) FILTER (failed(status)), count(*) FILTER (slow),
        histogram(duration_class(end_ns - start_ns))
    FROM beside_request WHERE start_ns >= $from_ns GROUP BY ALL
),
by_class AS (
    SELECT step, class, sum(number) AS number
    FROM (
        SELECT step, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number FROM by_minute
    ) GROUP BY ALL
),
ranked AS (
    SELECT step, class, sum(number) OVER (PARTITION BY step ORDER BY class) AS up_to,
           sum(number) OVER (PARTITION BY step) AS all_requests
    FROM by_class
),
wanted AS (
    SELECT step, share, share * (any_value(all_requests) - 1) AS rank
    FROM ranked CROSS JOIN (SELECT unnest([0.5, 0.95, 0.99]) AS share) GROUP BY step, share
),
-- Between two durations the one in proportion, as quantile_cont has it.
found AS (
    SELECT
        step, share, duration_of(min(class) FILTER (up_to > floor(rank))) AS lower_ns,
        duration_of(min(class) FILTER (up_to > ceil(rank))) AS upper_ns,
        any_value(rank) - floor(any_value(rank)) AS rest
    FROM ranked JOIN wanted USING (step) GROUP BY step, share
),
latencies AS (
    SELECT step, list((lower_ns + (upper_ns - lower_ns) * rest)::BIGINT ORDER BY share) AS latency
    FROM found GROUP BY step
)
SELECT
    step, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, sum(slow)::BIGINT AS slow,
    any_value(latency) AS latency
FROM by_minute JOIN latencies USING (step)
GROUP BY step;

-- In seconds lost per second, in the minutes in which they were lost.
-- makes: cause_step
-- reads: shown_sender, part_summed, part_beside, beside_request
CREATE OR REPLACE TEMP TABLE cause_step AS
WITH
lost AS (
    SELECT cause, lost_ns * weight AS lost_ns, trace_id, span_id, start_ns, end_ns
    FROM beside_request JOIN part_beside USING (trace_id, span_id, start_ns)
    UNION ALL
    SELECT 'unexplained', unexplained_ns * weight, trace_id, span_id, start_ns, end_ns
    FROM beside_request WHERE weight > 0
),
spread AS (
    SELECT
        cause, lost_ns, start_ns, greatest(end_ns, start_ns + 1) AS end_ns,
        unnest(range((greatest(start_ns, $from_ns) - $from_ns) // $step_ns,
                     (least(greatest(end_ns, start_ns + 1), $to_ns) - 1 - $from_ns) // $step_ns + 1)) AS step
    FROM lost
)
SELECT cause, step, sum(lost_ns) / $step_ns AS lost
FROM (
    SELECT cause, (minute_begins(passed) - $from_ns) // $step_ns AS step, lost_ns
    FROM part_summed
    WHERE minute_begins(passed) >= $from_ns AND minute_begins(passed) < $to_ns
      AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender)
    UNION ALL
    SELECT
        cause, step,
        lost_ns * (overlap_ns(start_ns, end_ns, $from_ns + step * $step_ns, $from_ns + (step + 1) * $step_ns)
                   / (end_ns - start_ns))
    FROM spread
)
GROUP BY ALL;

-- makes: request_weight
-- reads: shown_sender, beside_request, request_summed, stay_summed, stay_beside, part_summed, part_beside
CREATE OR REPLACE TEMP TABLE request_weight AS
WITH
stayed AS (
    SELECT at_container_id AS container_id, at_host AS host, own_ns FROM stay_summed
    WHERE minute_begins(minute) >= $from_ns
      AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender)
    UNION ALL
    SELECT stay_beside.container_id, stay_beside.host, own_ns * weight
    FROM stay_beside JOIN beside_request USING (trace_id, span_id, start_ns)
),
mine AS (
    SELECT DISTINCT service, container_id, host FROM request_summed
    WHERE minute_begins(minute) >= $from_ns
      AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender)
    UNION
    SELECT service, container_id, host FROM beside_request
)
SELECT 'container' AS entity_type, container_id AS entity_id, own_ns::DOUBLE AS weight FROM stayed
UNION ALL
SELECT 'host', host, own_ns FROM stayed
UNION ALL
SELECT 'container', container_id, 0 FROM mine
UNION ALL
SELECT 'host', host, 0 FROM mine
UNION ALL
SELECT 'service', service, 0 FROM mine
UNION ALL
SELECT entity_type, entity_id, lost_ns FROM part_summed
WHERE entity_type IN ('container', 'host') AND minute_begins(minute) >= $from_ns
  AND row(service, operation, root, resource, container_id, host) IN (SELECT sender FROM shown_sender)
UNION ALL
SELECT entity_type, entity_id, lost_ns FROM part_beside JOIN beside_request USING (trace_id, span_id, start_ns)
WHERE entity_type IN ('container', 'host');

-- Who was read in the window, and how much it ran.
-- makes: read_entity
-- reads: point_summed, point_beside
CREATE OR REPLACE TEMP TABLE read_entity AS
SELECT entity_type, entity_id, sum(rise) FILTER (signal = 'container.cpu.time') AS ran
FROM (
    SELECT entity_type, entity_id, signal, max(highest) - min(lowest) AS rise
    FROM (
        SELECT series, highest, lowest FROM point_summed
        WHERE minute_begins(minute) >= $from_ns AND minute_begins(minute) < $to_ns
        UNION ALL
        SELECT series, value, value FROM point_beside WHERE time_ns >= $from_ns AND time_ns < $to_ns
    )
    JOIN series USING (series)
    GROUP BY entity_type, entity_id, signal, series
)
GROUP BY ALL;

-- ---- readings: stretches and who is heard are made by summaries/stretches.sql

-- A minute in which nobody looked for a while is taken apart again: its values one by one.
-- makes: broken_minute
-- reads: line_stretch, heard_line
-- only with: heard_line
CREATE OR REPLACE TEMP TABLE broken_minute AS
SELECT line, from_ns AS first_ns, line_stretch.to_ns AS last_ns
FROM line_stretch JOIN heard_line USING (line)
WHERE greatest(list_max(long_steps), CASE WHEN readings > 1 THEN step_ns END) > greatest(most_ns, $coarse_ns);

-- makes: shown_reading
-- reads: line_stretch, heard_line, broken_minute, wanted_series
-- only with: heard_line
CREATE OR REPLACE TEMP TABLE shown_reading AS
WITH
apart AS (
    SELECT
        broken_minute.line, time_ns, value, kind, ours, start_ns,
        lag(time_ns) OVER each AS before_ns, lag(value) OVER each AS before_value
    FROM broken_minute
    JOIN lines_of((SELECT list(series) FROM wanted_series)) AS described USING (line)
    JOIN point ON point.series = described.series AND time_ns BETWEEN first_ns AND last_ns
    WHERE time_ns >= (SELECT min(first_ns) FROM broken_minute) AND time_ns <= (SELECT max(last_ns) FROM broken_minute)
    WINDOW each AS (PARTITION BY broken_minute.line, first_ns ORDER BY time_ns)
),
stretches AS (
    SELECT line, from_ns, to_ns, amount, readings
    FROM line_stretch
    ANTI JOIN broken_minute
        ON broken_minute.line = line_stretch.line AND first_ns = from_ns AND last_ns = line_stretch.to_ns
    UNION ALL
    SELECT
        line, before_ns, time_ns,
        CASE WHEN kind = 'gauge' THEN before_value
             ELSE rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) END, 1
    FROM apart WHERE before_ns IS NOT NULL
),
ended AS (
    SELECT
        line, kind = 'gauge' AS is_level, from_ns,
        -- A level that nobody confirmed again held for one usual step.
        CASE WHEN kind = 'gauge' AND readings = 1 AND stretches.to_ns - from_ns > most_ns
             THEN from_ns + coalesce(usual_ns, 1) ELSE stretches.to_ns END AS to_ns,
        amount, readings, greatest(most_ns, $coarse_ns) AS most_ns
    FROM stretches JOIN heard_line USING (line)
)
SELECT * EXCLUDE (readings, most_ns) FROM ended
WHERE to_ns > from_ns AND (readings > 1 OR to_ns - from_ns <= most_ns) AND from_ns < $to_ns AND to_ns > $from_ns;
