-- Containers at their CPU limit whose throttled time nobody reads: how much of the limit they used says so, at any interval.
--
-- A container that used at least four fifths of its limit, and at least twice as much of it as usual, was held back by it in six
-- of seven faults of recorded systems, and in none of 51 windows without such a fault. How long a request stood still for that
-- nobody knows: at most for what of it lies in that time, perhaps not at all.

-- The stretches that a limit can explain: of what was not measured, or (`peer`) of a call whose other side was late. A container
-- that was seen to lose nothing in the same request lost nothing in the call either.
-- makes: limit_stretch
-- reads: stretch, dark_piece, late_call, reading_second, measured_visit
-- only with: reading_second
-- with any of: dark_piece, late_call
-- only where: near_series: signal IN ('container.cpu.limit', 'container.ancestor.cpu.limit', 'container.cpu.quota', 'container.cpu.limit_utilization')
CREATE OR REPLACE TEMP TABLE limit_stretch AS
WITH
stretch_second AS (
    SELECT
        stretch_no, container_id, from_ns, to_ns,
        unnest(seconds_read(from_ns, to_ns, $since_ns, $until_ns)) AS second
    FROM stretch WHERE piece_no IS NOT NULL
),
withheld_of AS (
    SELECT DISTINCT stretch_no
    FROM stretch_second AS stretch JOIN reading_second AS reading
        ON reading.second = stretch.second AND reading.entity_id = stretch.container_id
        AND reading.from_ns < stretch.to_ns AND reading.to_ns > stretch.from_ns
    WHERE signal = 'container.cpu.throttled'
)
SELECT stretch_no, piece_no, peer, container_id, host, from_ns, to_ns
FROM stretch
ANTI JOIN withheld_of USING (stretch_no)
ANTI JOIN (FROM measured_visit WHERE throttled_ns = 0) AS unthrottled
    ON unthrottled.request_no = stretch.request_no AND unthrottled.container_id = stretch.container_id
WHERE container_id IS NOT NULL
  AND (piece_no IN (SELECT piece_no FROM dark_piece) OR (peer AND piece_no IN (SELECT piece_no FROM late_call)));

-- The CPU limits of those containers in the hour before, from when to when each held (`to_ns` is null where it was not
-- reported again when it was due), and how often it is reported (`every_ns`, null where it was reported once). Of a quota
-- and its period the quotient; a period that nobody says is the kernel's, 100 ms. Who has no limit has the machine's CPUs
-- (`is_machine`), all the time.
-- makes: limit_level
-- reads: near_series, limit_stretch, cpu_count
-- only with: near_series, limit_stretch
-- only where: near_series: signal IN ('container.cpu.limit', 'container.ancestor.cpu.limit', 'container.cpu.quota')
CREATE OR REPLACE TEMP TABLE limit_level AS
WITH
reported AS (
    SELECT
        entity_id AS container_id, line, signal, attributes['layerline.cgroup'] AS of_cgroup, from_ns, value, to_ns,
        quantile_cont(to_ns - from_ns, 0.5) FILTER (to_ns - from_ns < longest_interval_ns()) OVER (PARTITION BY line)
            AS every_ns
    FROM levels_of(
        (SELECT list(series) FROM near_series
         WHERE signal IN ('container.cpu.limit', 'container.ancestor.cpu.limit', 'container.cpu.quota',
                          'container.cpu.quota.period')
           AND entity_id IN (SELECT container_id FROM limit_stretch)),
        $since_ns - seconds_long(3600), $until_ns)
    WHERE value > 0
),
held AS MATERIALIZED (
    SELECT * REPLACE (CASE WHEN to_ns - from_ns <= 1.5 * every_ns THEN to_ns END AS to_ns) FROM reported
)
SELECT container_id, line, of_cgroup, from_ns, to_ns, every_ns, value AS cpus, FALSE AS is_machine
FROM held WHERE signal IN ('container.cpu.limit', 'container.ancestor.cpu.limit')
UNION ALL
SELECT
    quota.container_id, quota.line, NULL, quota.from_ns, quota.to_ns, quota.every_ns,
    quota.value / coalesce(period.value, ms_of(100)), FALSE
FROM (FROM held WHERE signal = 'container.cpu.quota') AS quota
ASOF LEFT JOIN (FROM held WHERE signal = 'container.cpu.quota.period') AS period
    ON period.container_id = quota.container_id AND quota.from_ns + seconds_long(2) >= period.from_ns
UNION ALL
SELECT DISTINCT
    limit_stretch.container_id, '', NULL, $since_ns - seconds_long(7200), $until_ns + seconds_long(7200), NULL::BIGINT,
    cpu_count.cpus, TRUE
FROM limit_stretch
JOIN cpu_count ON cpu_count.host = limit_stretch.host
ANTI JOIN held ON held.container_id = limit_stretch.container_id
WHERE limit_stretch.container_id NOT IN (
    SELECT entity_id FROM near_series WHERE signal = 'container.cpu.limit_utilization'
);

-- Those that may have come near to their limit, or say so themselves.
-- makes: near_limit
-- reads: limit_stretch, limit_level, reading, near_series
-- only with: limit_stretch
CREATE OR REPLACE TEMP TABLE near_limit AS
WITH
least_limit AS (SELECT container_id, min(cpus) AS cpus FROM limit_level GROUP BY container_id),
used AS (
    SELECT entity_id AS container_id, from_ns, to_ns, sum(rise) / (to_ns - from_ns) AS cpus
    FROM reading WHERE signal = 'container.cpu.time' GROUP BY entity_id, from_ns, to_ns
)
SELECT DISTINCT container_id FROM used JOIN least_limit USING (container_id)
WHERE used.cpus >= full_ratio() * least_limit.cpus
UNION
SELECT near_series.entity_id
FROM near_series
JOIN point ON point.series = near_series.series
SEMI JOIN limit_stretch ON limit_stretch.container_id = near_series.entity_id
WHERE signal = 'container.cpu.limit_utilization' AND value >= full_ratio()
  AND time_ns BETWEEN $since_ns AND $until_ns
  AND near_series.entity_id NOT IN (SELECT container_id FROM least_limit);

-- How much of its limit each of those used in each interval of the hour before, and meanwhile. Of several limits the tightest
-- binds. A limit that was due to be reported again and was not was lifted; who has no limit uses nothing of it. One who is
-- said to use a share of a limit that nobody tells used it since the value before.
-- makes: limit_share
-- reads: near_limit, near_series, limit_level
-- only with: near_limit
CREATE OR REPLACE TEMP TABLE limit_share AS
WITH
used AS (
    SELECT entity_id AS container_id, from_ns, to_ns, sum(rise) / (to_ns - from_ns) AS used_cpus
    FROM readings_of(
        (SELECT list(series) FROM near_series
         WHERE signal = 'container.cpu.time' AND entity_id IN (SELECT container_id FROM near_limit)),
        $since_ns - seconds_long(3600), $until_ns)
    GROUP BY entity_id, from_ns, to_ns
),
each_limit AS (
    SELECT used.*, limit_level.cpus AS limit_cpus, limit_level.of_cgroup AS whose, limit_level.is_machine
    FROM used
    JOIN (SELECT DISTINCT container_id, line FROM limit_level) AS limit_line USING (container_id)
    ASOF JOIN limit_level ON limit_level.container_id = used.container_id AND limit_level.line = limit_line.line
        AND used.to_ns >= limit_level.from_ns
    WHERE used.to_ns < coalesce(
        limit_level.to_ns,
        limit_level.from_ns + 0.9 * greatest(coalesce(every_ns, used.to_ns - used.from_ns), seconds_long(10)))
),
without_limit AS (
    SELECT container_id, from_ns, to_ns FROM used
    ANTI JOIN each_limit USING (container_id, from_ns, to_ns)
    WHERE container_id IN (SELECT container_id FROM limit_level)
),
stated AS (
    SELECT
        entity_id AS container_id, lag(from_ns) OVER (PARTITION BY line ORDER BY from_ns) AS from_ns,
        from_ns AS to_ns, value
    FROM levels_of(
        (SELECT list(series) FROM near_series
         WHERE signal = 'container.cpu.limit_utilization' AND entity_id IN (SELECT container_id FROM near_limit)
           AND entity_id NOT IN (SELECT container_id FROM limit_level)),
        $since_ns - seconds_long(3600), $until_ns)
)
SELECT
    container_id, from_ns, to_ns, used_cpus / min(limit_cpus) AS ratio,
    min(limit_cpus) AS cpus, arg_min(whose, limit_cpus) AS of_cgroup, bool_or(is_machine) AS is_machine
FROM each_limit
GROUP BY container_id, from_ns, to_ns, used_cpus
UNION ALL
SELECT container_id, from_ns, to_ns, 0, NULL, NULL, FALSE FROM without_limit
UNION ALL
SELECT container_id, from_ns, to_ns, value, NULL, NULL, FALSE
FROM stated WHERE to_ns - from_ns BETWEEN 1 AND longest_interval_ns();

-- For how long of each piece its container (`peer`: the one at the other end of the call) was at its limit, and not as usual:
-- the lower quartile of the hour before, so that a fault that lasts for half of it is not the usual.
-- makes: saturated
-- reads: limit_stretch, limit_share
-- only with: limit_share
CREATE OR REPLACE TEMP TABLE saturated AS
WITH
moment AS (
    SELECT DISTINCT container_id, from_ns // seconds_long(60) AS minute FROM limit_stretch
),
usually AS (
    SELECT moment.container_id, minute, quantile_cont(ratio, 0.25) AS ratio
    FROM moment
    JOIN limit_share ON limit_share.container_id = moment.container_id
        AND to_ns <= minute * seconds_long(60) AND from_ns >= (minute - 60) * seconds_long(60)
    GROUP BY ALL
)
SELECT
    piece_no, peer, limit_stretch.container_id,
    sum(overlap_ns(limit_share.from_ns, limit_share.to_ns, limit_stretch.from_ns, limit_stretch.to_ns))::BIGINT
        AS full_ns,
    max(limit_share.ratio) AS ratio, any_value(usually.ratio) AS usual_ratio, min(cpus) AS cpus,
    any_value(of_cgroup) AS of_cgroup, bool_or(is_machine) AS is_machine,
    max(limit_share.to_ns - limit_share.from_ns) AS interval_ns
FROM limit_stretch
JOIN limit_share ON limit_share.container_id = limit_stretch.container_id
    AND limit_share.from_ns < limit_stretch.to_ns AND limit_share.to_ns > limit_stretch.from_ns
LEFT JOIN usually ON usually.container_id = limit_stretch.container_id
    AND minute = limit_stretch.from_ns // seconds_long(60)
WHERE limit_share.ratio >= full_ratio() AND limit_share.ratio >= coalesce(2 * usually.ratio, 0)
GROUP BY ALL;
