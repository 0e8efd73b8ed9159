-- What was measured of the containers that lived: one figure of each over the part of the window in which it lived.
--
-- In:  lived (lived.sql); $from_ns, $to_ns; $counters and $gauges, the catalogue's names of what is asked for.
-- Out: measured (container_id, signal, value), in the signal's unit, of a counter per second; was_read (who was read at all);
--      served (how its requests went).
CREATE OR REPLACE TEMP TABLE wanted AS
SELECT series.series, series.resource, series.signal, series.kind, entity_id AS container_id, series.attributes,
       resource.attributes['layerline.boot_id'] IS NOT NULL AS ours
FROM series
LEFT JOIN resource ON resource.resource = series.resource
SEMI JOIN lived ON lived.container_id = entity_id
WHERE entity_type = 'container'
  AND (kind <> 'gauge' AND signal IN (SELECT unnest($counters::VARCHAR[]))
       OR kind <> 'delta' AND signal IN (SELECT unnest($gauges::VARCHAR[])))
  -- What all tasks waited for is part of what some did.
  AND coalesce(series.attributes['pressure.kind'], 'some') = 'some';

-- ---- counters: the increase of each interval falls into the window in proportion

CREATE OR REPLACE TEMP TABLE counted AS
WITH
steps AS (
    SELECT
        wanted.*, start_ns, time_ns, value,
        lag(time_ns) OVER each AS before_ns, lag(value) OVER each AS before_value
    FROM point JOIN wanted USING (series)
    WHERE signal IN (SELECT unnest($counters::VARCHAR[]))
      AND time_ns >= $from_ns - 120_000_000_000 AND time_ns < $to_ns
    WINDOW each AS (PARTITION BY point.series ORDER BY time_ns)
),
-- One that began long before its first value says nothing about the window.
intervals AS (
    SELECT
        container_id, signal, resource, series, time_ns AS to_ns,
        rose_from(kind, ours, start_ns, before_ns, value, before_value)        AS from_ns,
        rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) AS rise
    FROM steps
),
grown AS (
    SELECT
        container_id, signal, resource, series,
        min(inside_ns) AS from_ns, max(intervals.to_ns) AS to_ns,
        sum(intervals.rise * ((intervals.to_ns - inside_ns) / (intervals.to_ns - intervals.from_ns))) AS rise,
        sum(intervals.to_ns - inside_ns) AS covered_ns
    FROM (SELECT *, greatest(from_ns, $from_ns) AS inside_ns FROM intervals) AS intervals
    WHERE to_ns > inside_ns AND from_ns >= $from_ns - 120_000_000_000
    GROUP BY container_id, signal, resource, series
)
SELECT container_id, signal, resource, min(grown.from_ns) AS from_ns, max(grown.to_ns) AS to_ns,
       sum(grown.rise) AS rise, max(grown.covered_ns) AS covered_ns
FROM grown GROUP BY container_id, signal, resource;

-- ---- gauges: a value holds until the next one, the death, or for two minutes

CREATE OR REPLACE TEMP TABLE held AS
WITH
values_and_deaths AS (
    SELECT wanted.*, time_ns, value FROM point JOIN wanted USING (series)
    WHERE signal IN (SELECT unnest($gauges::VARCHAR[]))
      AND time_ns >= $from_ns - 120_000_000_000 AND time_ns < $to_ns
    UNION ALL
    SELECT wanted.*, time_ns, NULL FROM wanted JOIN happened USING (container_id) WHERE what = 'container.die'
),
holds AS (
    SELECT
        values_and_deaths.*, greatest(time_ns, $from_ns) AS from_ns,
        least(coalesce(lead(time_ns) OVER (PARTITION BY series ORDER BY time_ns), lived_to_ns),
              time_ns + 120_000_000_000, $to_ns) AS to_ns
    FROM values_and_deaths JOIN lived USING (container_id)
),
lengths AS (
    SELECT *, greatest(0, to_ns - from_ns) AS held_ns FROM holds WHERE value IS NOT NULL
),
levels AS (
    SELECT
        container_id, signal, resource, series, min(lengths.from_ns) AS from_ns, max(lengths.to_ns) AS to_ns,
        sum(held_ns) AS covered_ns,
        -- Read only once, at its very end: that is all that is known.
        coalesce(sum(lengths.value * held_ns) / nullif(sum(held_ns), 0),
                 avg(lengths.value) FILTER (time_ns >= $from_ns)) AS value
    FROM lengths
    GROUP BY container_id, signal, resource, series
)
-- Of several limits the tightest binds; other levels add up.
SELECT container_id, signal, resource, min(from_ns) AS from_ns, max(to_ns) AS to_ns, max(covered_ns) AS covered_ns,
       CASE WHEN signal LIKE '%.limit' THEN min(value) ELSE sum(value) END AS value
FROM levels WHERE value IS NOT NULL
GROUP BY container_id, signal, resource;

-- ---- requests

CREATE OR REPLACE TEMP TABLE served AS
WITH answered AS (
    SELECT container_id, status, slow, end_ns - start_ns AS took_ns FROM request
    WHERE container_id IS NOT NULL AND start_ns >= $from_ns AND start_ns < $to_ns
)
SELECT
    lived.container_id, count(took_ns) AS requests,
    count(*) FILTER (status = 2) AS errors, count(*) FILTER (slow) AS slow, avg(took_ns) AS mean_ns,
    quantile_cont(took_ns, 0.5) AS p50_ns, quantile_cont(took_ns, 0.95) AS p95_ns, quantile_cont(took_ns, 0.99) AS p99_ns
FROM lived LEFT JOIN answered USING (container_id)
WHERE len(services) > 0
GROUP BY lived.container_id;

-- ---- together

CREATE OR REPLACE TEMP TABLE measured AS
WITH
told AS (
    SELECT container_id, signal, resource, from_ns, to_ns, covered_ns, rise, NULL::DOUBLE AS value FROM counted
    UNION ALL
    SELECT container_id, signal, resource, from_ns, to_ns, covered_ns, NULL, value FROM held
),
-- Where two tell of the same time, whoever saw more of it is believed; who was renamed tells on under another resource.
believed AS (
    SELECT * FROM told
    WHERE NOT EXISTS (
        FROM told AS other
        WHERE other.container_id = told.container_id AND other.signal = told.signal AND other.resource <> told.resource
          AND other.from_ns < told.to_ns AND other.to_ns > told.from_ns
          AND (other.covered_ns, other.resource) > (told.covered_ns, told.resource))
)
SELECT container_id, signal,
       coalesce(sum(rise) * 1e9 / nullif(sum(covered_ns) FILTER (rise IS NOT NULL), 0),
                sum(value * covered_ns) / nullif(sum(covered_ns) FILTER (value IS NOT NULL), 0), avg(value)) AS value
FROM believed JOIN lived USING (container_id)
GROUP BY container_id, signal
-- The rise in the first moments of a life that was over before the next reading is no rate of it.
HAVING NOT coalesce(bool_or(gone) AND sum(covered_ns) FILTER (rise IS NOT NULL) < 0.5 * any_value(lived_to_ns - lived_from_ns), false)
UNION ALL
SELECT container_id, unnest(['requests.count', 'requests.errors', 'requests.error_ratio', 'requests.slow',
                             'requests.slow_ratio', 'requests.mean', 'requests.p50', 'requests.p95', 'requests.p99']),
       unnest([requests, errors, errors / nullif(requests, 0), slow, slow / nullif(requests, 0), mean_ns, p50_ns, p95_ns, p99_ns])
FROM served;

CREATE OR REPLACE TEMP TABLE was_read AS
SELECT DISTINCT container_id, signal FROM wanted
JOIN point USING (series)
WHERE time_ns >= $from_ns - 120_000_000_000 AND time_ns < $to_ns;
