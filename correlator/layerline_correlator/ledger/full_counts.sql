-- Processes that had no file descriptor left, and containers without room for a further process or thread.

-- For how long of each piece that was not measured that was so, where it is not so all the time: in less than a quarter of the
-- hour before. What a gauge says at a moment is taken for the time since the value before.
-- makes: full_count
-- reads: stretch, dark_piece
-- only with: dark_piece
CREATE OR REPLACE TEMP TABLE full_count AS
WITH
gauges AS (
    SELECT
        CASE WHEN signal LIKE 'process.%' THEN 'descriptors' ELSE 'processes' END AS what,
        CASE WHEN signal LIKE 'process.%' THEN resource.instance ELSE series.entity_id END AS owner,
        signal LIKE '%.limit' AS is_limit, time_ns, value,
        greatest(
            coalesce(lag(time_ns) OVER (PARTITION BY point.series ORDER BY time_ns), 0), time_ns - longest_interval_ns()
        ) AS from_ns
    FROM series
    JOIN resource ON resource.resource = series.resource
    JOIN point ON point.series = series.series
    WHERE signal IN ('process.unix.file_descriptor.count', 'process.unix.file_descriptor.limit',
                     'container.pids', 'container.pids.limit')
      AND (resource.instance IN (SELECT instance FROM dark_piece)
           OR series.entity_id IN (SELECT container_id FROM stretch))
      AND time_ns BETWEEN $since_ns - seconds_long(3600) AND $until_ns
),
allowed AS (
    SELECT what, owner, min(value) AS most FROM gauges WHERE is_limit AND value > 0 GROUP BY ALL
),
used AS (
    SELECT gauges.what, gauges.owner, from_ns, time_ns AS to_ns, value, most, value >= 0.98 * most AS is_full
    FROM gauges JOIN allowed ON allowed.what = gauges.what AND allowed.owner = gauges.owner
    WHERE NOT is_limit
),
moment AS (
    SELECT DISTINCT
        used.what, used.owner, stretch_no, stretch.from_ns // seconds_long(60) AS minute,
        dark_piece.piece_no, used.value, most,
        overlap_ns(used.from_ns, used.to_ns, stretch.from_ns, stretch.to_ns) AS full_ns
    FROM stretch
    JOIN dark_piece ON dark_piece.piece_no = stretch.piece_no AND NOT stretch.peer AND NOT is_client(dark_piece.kind)
    JOIN used ON used.owner = CASE WHEN used.what = 'descriptors' THEN dark_piece.instance ELSE stretch.container_id END
        AND used.from_ns < stretch.to_ns AND used.to_ns > stretch.from_ns
    WHERE is_full
),
always AS (
    SELECT each_minute.what, each_minute.owner, minute
    FROM (SELECT DISTINCT what, owner, minute FROM moment) AS each_minute
    JOIN used ON used.what = each_minute.what AND used.owner = each_minute.owner
        AND to_ns <= minute * seconds_long(60) AND to_ns >= (minute - 60) * seconds_long(60)
    GROUP BY ALL HAVING avg(is_full::INT) >= 0.25
),
within_stretch AS (FROM moment ANTI JOIN always USING (what, owner, minute)),
longest_full AS (
    FROM within_stretch QUALIFY row_number() OVER (PARTITION BY stretch_no ORDER BY full_ns DESC, what) = 1
)
SELECT
    piece_no, sum(full_ns)::BIGINT AS full_ns, any_value(what) AS what, max(value) AS used, min(most) AS most
FROM longest_full
GROUP BY piece_no;
