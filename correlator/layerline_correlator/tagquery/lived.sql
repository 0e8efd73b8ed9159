-- Which containers lived in the window, for how long, and the tags that are asked for.
--
-- $from_ns and $to_ns are the window, half-open; $keys the attributes that tags are asked by. What was read, served or
-- happened within two minutes before the window says that a container lived when it began: the views of what was read and
-- sent (summaries/cover.py) begin there.

-- makes: seen_series
-- reads: point_summed, point_beside
CREATE OR REPLACE TEMP TABLE seen_series AS
SELECT series, min(first_ns) AS first_ns, max(last_ns) AS last_ns
FROM (SELECT series, first_ns, last_ns FROM point_summed UNION ALL SELECT series, time_ns, time_ns FROM point_beside)
GROUP BY series;

-- makes: life_event
CREATE OR REPLACE TEMP TABLE life_event AS
SELECT resource.container_id, time_ns, event.name AS what
FROM event JOIN resource USING (resource)
WHERE resource.container_id IS NOT NULL AND time_ns >= $from_ns - longest_interval_ns() AND time_ns < $to_ns
  AND event.name NOT IN ('container.create', 'container.destroy');

-- makes: tagged_sender
CREATE OR REPLACE TEMP TABLE tagged_sender AS
FROM tagged($from_ns, $to_ns);

-- makes: lived
-- reads: seen_series, life_event, span_summed, span_beside, tagged_sender
CREATE OR REPLACE TEMP TABLE lived AS
WITH
signs AS (
    SELECT entity_id AS container_id, first_ns, last_ns FROM seen_series JOIN series USING (series)
    WHERE entity_type = 'container'
    UNION ALL
    SELECT container_id, first_ns, least(last_ns, $to_ns - 1)
    FROM (
        SELECT resource, first_ns, last_ns FROM span_summed
        UNION ALL SELECT resource, start_ns, end_ns FROM span_beside
    ) JOIN resource USING (resource)
    UNION ALL
    SELECT container_id, start_ns, least(end_ns, $to_ns - 1) FROM request
    WHERE start_ns >= $from_ns - longest_interval_ns() AND start_ns < $to_ns
    UNION ALL
    SELECT container_id, time_ns, time_ns FROM life_event
),
extent_of AS (
    SELECT container_id, min(first_ns) AS first_ns, max(last_ns) AS last_ns FROM signs
    WHERE container_id IS NOT NULL
    GROUP BY container_id
),
turns AS (
    SELECT container_id, max(time_ns) FILTER (what = 'container.die') AS died_ns,
           max(time_ns) FILTER (what = 'container.start') AS started_ns
    FROM life_event GROUP BY container_id
),
hosts AS (
    SELECT host, max(last_ns) AS read_ns FROM seen_series JOIN series USING (series) GROUP BY host
),
senders AS (
    SELECT
        container_id,
        any_value(host) AS host,
        list_sort(list(DISTINCT service) FILTER (service IS NOT NULL)) AS services
    FROM tagged_sender GROUP BY container_id
),
ends AS (
    SELECT
        extent_of.*, senders.host, coalesce(services, []) AS services,
        -- A start that was missed shows in what came long after the death.
        CASE WHEN died_ns > coalesce(started_ns, 0) AND last_ns - died_ns <= 10_000_000_000 THEN died_ns END AS died_ns
    FROM extent_of
    LEFT JOIN turns USING (container_id)
    LEFT JOIN senders USING (container_id)
),
tags AS (
    SELECT container_id, map(list(key), list(listed)) AS tags
    FROM (
        SELECT container_id, key, list_sort(list_distinct(flatten(list(carried)))) AS listed
        FROM (SELECT container_id, key, tag_of(own, of_container, of_host, key) AS carried
              FROM tagged_sender, (SELECT unnest($keys::VARCHAR[]) AS key) AS asked)
        GROUP BY container_id, key)
    GROUP BY container_id
)
SELECT
    container_id, ends.host, services,
    greatest(first_ns, $from_ns) AS lived_from_ns,
    CASE WHEN died_ns IS NOT NULL THEN died_ns
         WHEN last_ns >= $to_ns - 60_000_000_000 THEN $to_ns
         ELSE last_ns END AS lived_to_ns,
    -- Nobody saw it die: it is gone if its host was read on without it. Not known where that was not read either.
    CASE WHEN died_ns IS NOT NULL THEN TRUE
         WHEN last_ns >= $to_ns - 60_000_000_000 THEN FALSE
         WHEN read_ns >= last_ns + 60_000_000_000 THEN TRUE END AS gone,
    tags
FROM ends
LEFT JOIN hosts ON hosts.host = ends.host
LEFT JOIN tags USING (container_id)
WHERE coalesce(died_ns, last_ns) >= $from_ns;
