-- The values of each series, summed up per quarter of an hour, of its minutes. A series keeps its minutes in a quarter in
-- which it was not read steadily, was not read for longer than an interval may be, or began again: what passed within such a
-- quarter is not what its ends say.
-- In: $first, $last (minutes), $quarters (the first minutes of those that are wanted, all in between).
INSERT INTO point_quarter BY NAME
WITH
each_minute AS (
    SELECT
        point_minute.*, quarter_of(minute) AS quarter, kind,
        resource.attributes['layerline.boot_id'] IS NOT NULL AS ours,
        lag(last_ns) OVER each AS before_ns, lag(last_value) OVER each AS before_value
    FROM point_minute
    JOIN series ON series.series = point_minute.series
    LEFT JOIN resource ON resource.resource = series.resource
    WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
    WINDOW each AS (PARTITION BY point_minute.series, quarter_of(minute) ORDER BY minute)
),
merged AS (
    SELECT
        quarter AS minute, series, sum(points)::BIGINT AS points, min(first_ns) AS first_ns, max(last_ns) AS last_ns,
        arg_min(first_start_ns, each_minute.minute) AS first_start_ns,
        arg_min(first_value, each_minute.minute) AS first_value,
        arg_max(last_value, each_minute.minute) AS last_value,
        min(lowest) AS lowest, max(highest) AS highest,
        CASE WHEN any_value(kind) <> 'gauge'
             THEN sum(coalesce(rise, 0)
                      + CASE WHEN before_ns IS NULL THEN 0
                             ELSE rose_by(kind, ours, first_start_ns, first_ns, before_ns, first_value, before_value)
                        END)
        END AS rise,
        CASE WHEN any_value(kind) = 'gauge'
             THEN sum(coalesce(held, 0) + coalesce(before_value * (first_ns - before_ns), 0))
        END AS held,
        coalesce(quantile_disc(step_ns, 0.5), quantile_disc(first_ns - before_ns, 0.5)) AS step_ns,
        list_concat(
            coalesce(flatten(list(long_steps)), []), coalesce(list(first_ns - before_ns), [])
        ) AS steps,
        bool_and(before_ns IS NULL
                 OR rose_from(kind, ours, first_start_ns, before_ns, first_value, before_value) = before_ns)
        AND coalesce(max(step_ns) <= 1.5 * min(step_ns), TRUE)
        AND coalesce(max(first_ns - before_ns) <= longest_interval_ns(), TRUE) AS is_steady
    FROM each_minute
    GROUP BY quarter, series
)
SELECT
    * EXCLUDE (steps, is_steady),
    nullif(list_filter(steps, lambda step: step > 2 * step_ns), []) AS long_steps
FROM merged WHERE is_steady
UNION ALL BY NAME
SELECT each_minute.* EXCLUDE (quarter, kind, ours, before_ns, before_value)
FROM each_minute SEMI JOIN merged
    ON merged.minute = each_minute.quarter AND merged.series = each_minute.series AND NOT is_steady
ORDER BY minute, series;
