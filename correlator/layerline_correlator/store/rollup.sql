-- The points of a sealed hour as they are kept when it is older: of each series the first and the last of each step.
-- In: old_point (the points, with the step in which each is). Out: the rows of the new file, in its order.
--
-- Of counters these two say how much it grew within a step, and from one step to the next, as all of them did; where one began
-- again, stepped back, or says another start, both values stay. Increases (`delta`) stay as they are. Of a level the first
-- becomes its mean over the time to the last: so the level's mean over whole steps is what it was.
WITH
each_point AS (
    SELECT
        point.*, kind, resource AS sender,
        lag(point.step) OVER each AS before_step, lag(point.value) OVER each AS before_value,
        lag(point.start_ns) OVER each AS before_start_ns,
        lead(point.time_ns) OVER each AS next_ns, lead(point.step) OVER each AS next_step,
        lead(point.value) OVER each AS next_value, lead(point.start_ns) OVER each AS next_start_ns
    FROM old_point AS point
    LEFT JOIN (
        SELECT series, any_value(kind) AS kind, min(resource) AS resource FROM series GROUP BY series
    ) AS described ON described.series = point.series
    WINDOW each AS (PARTITION BY point.series ORDER BY point.time_ns)
),
placed AS (
    SELECT
        *, coalesce(before_step < step, TRUE) AS is_first, coalesce(next_step > step, TRUE) AS is_last,
        CASE coalesce(kind, 'delta')
            WHEN 'gauge' THEN FALSE
            WHEN 'delta' THEN TRUE
            ELSE coalesce(value < before_value OR start_ns <> before_start_ns, FALSE)
                OR coalesce(next_value < value OR next_start_ns <> start_ns, FALSE)
        END AS is_turn
    FROM each_point
),
level AS (
    SELECT
        series, step,
        CASE WHEN min(value) = max(value) THEN min(value)
             ELSE sum(value * (next_ns - time_ns)) / sum(next_ns - time_ns) END AS mean
    FROM placed WHERE kind = 'gauge' AND NOT is_last GROUP BY series, step
)
SELECT placed.series, start_ns, time_ns, CASE WHEN is_first THEN coalesce(mean, value) ELSE value END AS value
FROM placed
LEFT JOIN level ON level.series = placed.series AND level.step = placed.step
WHERE is_first OR is_last OR is_turn
ORDER BY sender, placed.series, time_ns, start_ns
