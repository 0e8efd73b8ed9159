-- Readings of some series from what is summed up per minute, and from rows beside it: a value by itself is a minute with
-- one value, so that one rule makes both.
--
-- In: wanted_series(series); point_summed and point_beside (cover.py).

-- Each line's minutes in order: what passed within one, and from the last value of the one before until its first.
-- makes: line_minute
-- reads: wanted_series, point_summed, point_beside
-- only with: wanted_series
CREATE OR REPLACE TEMP TABLE line_minute AS
WITH
described AS MATERIALIZED (FROM lines_of((SELECT list(series) FROM wanted_series))),
values_of AS (
    SELECT series, first_ns, last_ns, first_start_ns, first_value, last_value, points, rise, held, step_ns, long_steps
    FROM point_summed SEMI JOIN wanted_series USING (series)
    UNION ALL
    SELECT series, time_ns, time_ns, start_ns, value, value, 1, NULL, NULL, NULL, NULL
    FROM point_beside SEMI JOIN wanted_series USING (series)
)
SELECT
    line, kind, ours, first_ns, last_ns, first_start_ns, first_value, last_value, points, step_ns, long_steps,
    CASE WHEN kind = 'gauge' THEN held ELSE rise END AS amount,
    lag(last_ns) OVER each AS before_ns, lag(last_value) OVER each AS before_value,
    lead(first_ns) OVER each AS next_ns
FROM values_of JOIN described ON described.series = values_of.series
WINDOW each AS (PARTITION BY line ORDER BY first_ns);

-- What is said of a stretch of time: within minutes, and between them. Of levels `amount` is the mean.
-- makes: line_stretch
-- reads: line_minute
-- only with: line_minute
CREATE OR REPLACE TEMP TABLE line_stretch AS
WITH
stretches AS (
    SELECT
        line, kind = 'gauge' AS is_level, first_ns AS from_ns, last_ns AS to_ns,
        CASE WHEN kind = 'gauge' THEN amount / (last_ns - first_ns) ELSE amount END AS amount,
        points - 1 AS readings, step_ns, long_steps
    FROM line_minute WHERE last_ns > first_ns
    UNION ALL
    SELECT
        line, FALSE,
        rose_from(kind, ours, first_start_ns, before_ns, first_value, before_value) AS from_ns, first_ns,
        rose_by(kind, ours, first_start_ns, first_ns, before_ns, first_value, before_value), 1,
        first_ns - from_ns, NULL
    FROM line_minute WHERE kind <> 'gauge' AND first_ns - from_ns BETWEEN 1 AND longest_interval_ns()
    UNION ALL
    SELECT
        line, TRUE, last_ns, least(next_ns, last_ns + longest_interval_ns()) AS to_ns, last_value, 1,
        to_ns - last_ns, NULL
    FROM line_minute WHERE kind = 'gauge'
)
FROM stretches WHERE to_ns > from_ns;

-- Who is heard, as for all readings (facts/readings.sql).
-- makes: heard_line
-- reads: line_stretch, line_minute, wanted_series
-- only with: line_stretch
CREATE OR REPLACE TEMP TABLE heard_line AS
WITH
described AS (
    SELECT DISTINCT ON (line) * EXCLUDE (series) FROM lines_of((SELECT list(series) FROM wanted_series))
),
rivals AS (
    SELECT entity_type, entity_id, signal, sender, is_part, any_value(ours) AS ours, sum(readings) AS readings,
           sum(to_ns - from_ns) / count(DISTINCT line) AS covered_ns
    FROM line_stretch JOIN described USING (line) WHERE NOT is_level GROUP BY ALL
    UNION ALL
    SELECT entity_type, entity_id, signal, sender, is_part, any_value(described.ours) AS ours, sum(points) AS readings,
           max(last_ns) - min(first_ns) AS covered_ns
    FROM line_minute JOIN described USING (line) WHERE described.kind = 'gauge' GROUP BY ALL
),
saw AS (
    SELECT *, sees_enough(entity_type, entity_id, signal, covered_ns) AS saw_enough
    FROM rivals
),
heard AS (
    FROM saw
    QUALIFY teller_place(entity_type, entity_id, signal, saw_enough, ours, is_part, readings, sender) = 1
),
usual_step AS (
    SELECT line, CASE WHEN sum(readings) > 1 THEN quantile_disc(coalesce(step_ns, to_ns - from_ns), 0.5) END AS usual_ns
    FROM line_stretch GROUP BY line
)
SELECT
    described.*, usual_ns,
    least(longest_interval_ns(), greatest(seconds_long(5), 3 * coalesce(usual_ns, 0))) AS most_ns
FROM described
SEMI JOIN heard USING (entity_type, entity_id, signal, sender, is_part)
JOIN usual_step USING (line);
