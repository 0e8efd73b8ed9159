-- What was measured of the containers that lived: one figure of each over the part of the window in which it lived.
--
-- $from_ns, $to_ns: the window; $counters and $gauges: the catalogue's names of what is asked for. What was read of that is
-- `wanted_reading`: measured_rows.sql reads every value, measured_minutes.sql what is summed up per minute.

-- makes: wanted_series
-- reads: lived
CREATE OR REPLACE TEMP TABLE wanted_series AS
SELECT series, signal, kind, entity_id AS container_id
FROM series
SEMI JOIN lived ON lived.container_id = entity_id
WHERE entity_type = 'container'
  AND (kind <> 'gauge' AND signal IN (SELECT unnest($counters::VARCHAR[]))
       OR kind = 'gauge' AND signal IN (SELECT unnest($gauges::VARCHAR[])))
  -- What all tasks waited for is part of what some did.
  AND coalesce(series.attributes['pressure.kind'], 'some') = 'some';

-- The increase of each interval falls into the window in proportion. Devices add up; each covers the same time.
-- makes: grown
-- reads: wanted_reading
-- only with: wanted_reading
CREATE OR REPLACE TEMP TABLE grown AS
WITH
inside AS (
    SELECT container_id, signal, attributes, amount * ((to_ns - inside_ns) / (to_ns - from_ns)) AS rise,
           to_ns - inside_ns AS covered_ns
    FROM (SELECT *, greatest(from_ns, $from_ns) AS inside_ns FROM wanted_reading WHERE NOT is_level)
    WHERE to_ns > inside_ns
),
each_one AS (
    SELECT container_id, signal, attributes, sum(rise) AS rise, sum(covered_ns) AS covered_ns FROM inside GROUP BY ALL
)
SELECT container_id, signal, sum(rise) AS rise, max(covered_ns) AS covered_ns FROM each_one GROUP BY ALL;

-- A level holds until the next one, the death, or for as long as a reading may be. Of several limits the tightest binds; other
-- levels add up.
-- makes: held_level
-- reads: wanted_reading, lived, life_event
-- only with: wanted_reading
CREATE OR REPLACE TEMP TABLE held_level AS
WITH
death AS (SELECT container_id, time_ns AS died_ns FROM life_event WHERE what = 'container.die'),
held AS (
    SELECT
        line, attributes, signal, amount AS value, level.from_ns AS read_ns, lived.container_id,
        greatest(level.from_ns, $from_ns) AS from_ns, least(level.to_ns, lived.lived_to_ns, $to_ns) AS to_ns,
        min(died_ns) AS died_ns
    FROM (FROM wanted_reading WHERE is_level) AS level
    JOIN lived ON lived.container_id = level.container_id
    LEFT JOIN death ON death.container_id = lived.container_id AND death.died_ns > level.from_ns
    GROUP BY ALL
),
ended AS (SELECT * REPLACE (least(to_ns, died_ns) AS to_ns) FROM held),
each_one AS (
    SELECT
        container_id, signal, attributes, sum(greatest(0, to_ns - from_ns)) AS covered_ns,
        -- Read only once, at its very end: that is all that is known.
        coalesce(sum(value * greatest(0, to_ns - from_ns)) / nullif(sum(greatest(0, to_ns - from_ns)), 0),
                 avg(value) FILTER (read_ns >= $from_ns)) AS value
    FROM ended
    GROUP BY ALL
)
SELECT container_id, each_one.signal,
       CASE WHEN any_value(is_limit) THEN min(value) ELSE sum(value) END AS value
FROM each_one
LEFT JOIN signal ON signal.signal = each_one.signal
WHERE value IS NOT NULL
GROUP BY container_id, each_one.signal;

-- ---- requests

-- makes: served
-- reads: lived
CREATE OR REPLACE TEMP TABLE served AS
WITH answered AS (
    SELECT container_id, status, slow, end_ns - start_ns AS took_ns FROM request
    WHERE container_id IS NOT NULL AND start_ns >= $from_ns AND start_ns < $to_ns
)
SELECT
    lived.container_id, count(took_ns) AS requests,
    count(*) FILTER (failed(status)) AS errors, count(*) FILTER (slow) AS slow, avg(took_ns) AS mean_ns,
    quantile_cont(took_ns, 0.5) AS p50_ns,
    quantile_cont(took_ns, 0.95) AS p95_ns,
    quantile_cont(took_ns, 0.99) AS p99_ns
FROM lived LEFT JOIN answered USING (container_id)
WHERE len(services) > 0
GROUP BY lived.container_id;

-- ---- together

-- container_id, signal, value in the signal's unit; of a counter per second of the life that was measured.
-- makes: measured
-- reads: grown, held_level, served, lived
CREATE OR REPLACE TEMP TABLE measured AS
SELECT container_id, signal, rise * 1e9 / nullif(covered_ns, 0) AS value
FROM grown JOIN lived USING (container_id)
-- The rise in the first moments of a life that was over before the next reading is no rate of it.
WHERE NOT coalesce(gone AND covered_ns < 0.5 * (lived_to_ns - lived_from_ns), FALSE)
UNION ALL
SELECT container_id, signal, value FROM held_level
UNION ALL
SELECT container_id, unnest(['requests.count', 'requests.errors', 'requests.error_ratio', 'requests.slow',
                             'requests.slow_ratio', 'requests.mean', 'requests.p50', 'requests.p95', 'requests.p99']),
       unnest(
           [
               requests,
               errors,
               errors / nullif(requests, 0),
               slow,
               slow / nullif(requests, 0),
               mean_ns,
               p50_ns,
               p95_ns,
               p99_ns
           ]
       )
FROM served;

-- Which of them was read at all.
-- makes: was_read
-- reads: wanted_series, seen_series
CREATE OR REPLACE TEMP TABLE was_read AS
SELECT DISTINCT container_id, signal FROM wanted_series SEMI JOIN seen_series USING (series);
