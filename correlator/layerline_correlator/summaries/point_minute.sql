-- The values of each series, summed up per minute.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted); $coarse_ns: the step to which they were rolled
-- up since, 0 where they were not: within it nobody can tell how often they were read.
INSERT INTO point_minute BY NAME
WITH
step AS (
    SELECT
        minute_of(time_ns) AS minute, point.series, point.start_ns, time_ns, value, kind,
        resource.attributes['layerline.boot_id'] IS NOT NULL AS ours,
        lag(time_ns) OVER each AS before_ns, lag(value) OVER each AS before_value
    FROM point
    JOIN series ON series.series = point.series
    LEFT JOIN resource ON resource.resource = series.resource
    WHERE time_ns >= $from_ns AND time_ns < $to_ns AND minute_of(time_ns) IN (SELECT unnest($minutes::BIGINT[]))
    WINDOW each AS (PARTITION BY point.series, minute_of(time_ns) ORDER BY time_ns)
),
summed AS (
    SELECT
        minute, series, count(*) AS points, min(time_ns) AS first_ns, max(time_ns) AS last_ns,
        arg_min(start_ns, time_ns) AS first_start_ns,
        arg_min(value, time_ns) AS first_value, arg_max(value, time_ns) AS last_value,
        min(value) AS lowest, max(value) AS highest,
        sum(rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value))
            FILTER (before_ns IS NOT NULL AND kind <> 'gauge') AS rise,
        sum(before_value * (time_ns - before_ns)) FILTER (kind = 'gauge') AS held,
        quantile_disc(time_ns - before_ns, 0.5) AS step_ns,
        list(time_ns - before_ns) FILTER (before_ns IS NOT NULL AND time_ns - before_ns > $coarse_ns) AS steps
    FROM step GROUP BY minute, series
)
SELECT
    * EXCLUDE (steps),
    nullif(list_filter(steps, lambda step: step > 2 * step_ns), []) AS long_steps
FROM summed ORDER BY minute, series;
