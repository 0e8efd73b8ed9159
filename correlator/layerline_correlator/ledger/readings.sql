-- The time join: how much each counter grew during each stretch of the batch's requests.
--
-- In:  piece, segment, visit (pieces.sql), and $since_ns, $until_ns around all of it.
-- Out: seen (per stretch and series: estimate, low, high, how much of the stretch the readings cover),
--      ran (per visit: what each container of the host, and each process in none, ran meanwhile),
--      level (per visit: the gauges that held; a limit that is no longer reported was removed), fact (what was measured).
-- Inside one reading's interval nothing is known but its increase: `low` and `high` say so.
--
-- Readings and stretches are joined by the seconds they touch, an equality that hashes; a pair that meets in several
-- seconds is taken in the first that both touch.
CREATE OR REPLACE TEMP MACRO seconds_of(from_ns, to_ns) AS range(from_ns // 1_000_000_000, (to_ns - 1) // 1_000_000_000 + 1);
CREATE OR REPLACE TEMP MACRO first_second(from_a, from_b) AS greatest(from_a, from_b) // 1_000_000_000;

-- A stretch is a visit, a stretch of a piece that readings can explain, or (`peer`) the same at the other end of a call.
CREATE OR REPLACE TEMP TABLE stretch AS
WITH
explained AS (
    SELECT piece.*, segment.from_ns AS part_from, segment.to_ns AS part_to
    FROM piece JOIN segment ON segment.request_no = piece.request_no AND segment.span_no = piece.span_no
    WHERE (off_ns > 0 AND moved_blocks) OR dark_ns > 0 OR (kind = 3 AND off_ns > 10_000_000)
),
windows AS (
    SELECT request_no, visit_no, NULL::BIGINT AS piece_no, false AS peer, container_id, host, from_ns, to_ns FROM visit
    WHERE to_ns > from_ns
    UNION ALL
    SELECT request_no, visit_no, piece_no, false, container_id, host, part_from, part_to FROM explained
    UNION ALL
    SELECT request_no, visit_no, piece_no, true, callee.container_id, callee.host, part_from, part_to
    FROM explained JOIN callee USING (piece_no)
)
SELECT row_number() OVER () AS stretch_no, * FROM windows;

-- Who tells of a signal: our agent, or one sender; one CPU's share at a time, or the whole.
CREATE OR REPLACE TEMP TABLE told AS
WITH
wanted AS (
    SELECT series.* FROM series
    SEMI JOIN (SELECT DISTINCT host FROM stretch) AS hosts ON hosts.host = series.host
    WHERE kind IN ('cumulative', 'delta') AND signal IN (
        'container.cpu.time', 'container.cpu.throttled', 'container.cpu.throttled_periods', 'container.cpu.pressure',
        'container.io.pressure', 'container.disk.io', 'container.memory.refaults', 'container.memory.limit_hits', 'container.memory.pressure',
        'container.network.tcp.retransmits',
        'system.cpu.time', 'system.io.pressure', 'system.disk.io_time', 'system.memory.pressure',
        'system.network.io', 'system.network.dropped', 'system.network.tcp.retransmits', 'system.process.cpu.time')
)
SELECT
    wanted.* EXCLUDE (attributes, part_of), coalesce(part_of, wanted.attributes) AS attributes, part_of IS NOT NULL AS is_part,
    resource.attributes['layerline.boot_id'] IS NOT NULL AS ours,
    CASE WHEN ours THEN 'layerline' ELSE wanted.resource END || CASE WHEN is_part THEN ' in parts' ELSE '' END AS teller
FROM wanted LEFT JOIN resource ON resource.resource = wanted.resource;

CREATE OR REPLACE TEMP TABLE growth AS
WITH
steps AS (
    SELECT
        told.series, told.kind, told.ours, point.start_ns, point.time_ns, point.value,
        lag(point.time_ns) OVER each AS before_ns, lag(point.value) OVER each AS before_value
    FROM point JOIN told ON told.series = point.series
    WHERE point.time_ns BETWEEN $since_ns AND $until_ns
    WINDOW each AS (PARTITION BY point.series ORDER BY point.time_ns)
),
intervals AS (
    SELECT
        series, time_ns AS to_ns,
        rose_from(kind, ours, start_ns, before_ns, value, before_value)        AS from_ns,
        rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) AS rise
    FROM steps
)
SELECT series, from_ns, to_ns, rise FROM intervals
WHERE to_ns > from_ns AND to_ns - from_ns <= 120_000_000_000;

-- Where several tell of the same, one is heard: our agent, else who tells the whole, else who tells most often.
CREATE OR REPLACE TEMP TABLE unheard AS
WITH
contested AS (SELECT entity_id, signal FROM told GROUP BY ALL HAVING count(DISTINCT teller) > 1),
tellers AS (
    SELECT entity_id, signal, teller, any_value(ours) AS ours, any_value(is_part) AS is_part, count(*) AS readings
    FROM growth JOIN told USING (series) SEMI JOIN contested USING (entity_id, signal) GROUP BY ALL
)
SELECT entity_id, signal, teller FROM tellers
QUALIFY row_number() OVER (PARTITION BY entity_id, signal ORDER BY ours DESC, is_part, readings DESC, teller) > 1;

CREATE OR REPLACE TEMP TABLE reading AS
WITH chosen AS (
    SELECT told.* EXCLUDE (resource, unit, kind), from_ns, to_ns, rise
    FROM growth JOIN told USING (series)
    ANTI JOIN unheard ON unheard.entity_id = told.entity_id AND unheard.signal = told.signal AND unheard.teller = told.teller
)
SELECT series, signal, entity_type, entity_id, host, attributes, from_ns, to_ns, rise FROM chosen WHERE NOT is_part
UNION ALL BY NAME
-- the shares of all CPUs, of all modes
SELECT min(series) AS series, signal, entity_type, entity_id, host, attributes, from_ns, to_ns, sum(rise) AS rise
FROM chosen WHERE is_part GROUP BY ALL;

-- A stretch that says it lasted for centuries is looked at only where there are readings.
CREATE OR REPLACE TEMP TABLE stretch_second AS
SELECT stretch.*, unnest(seconds_of(greatest(from_ns, first_ns), least(to_ns, last_ns))) AS second
FROM stretch, (SELECT min(from_ns) AS first_ns, max(to_ns) AS last_ns FROM reading) AS extent
WHERE from_ns < last_ns AND to_ns > first_ns;

CREATE OR REPLACE TEMP TABLE reading_second AS
SELECT reading.*, unnest(seconds_of(from_ns, to_ns)) AS second FROM reading
WHERE to_ns > (SELECT min(from_ns) FROM stretch) AND from_ns < (SELECT max(to_ns) FROM stretch);

-- Several CPUs may run at once: `cpus` is how much faster than the clock a counter of its kind can grow.
CREATE OR REPLACE TEMP TABLE cpus AS
WITH
counted AS (
    SELECT host, arg_max(value, time_ns) AS cpus
    FROM series JOIN point ON point.series = series.series
    WHERE signal = 'system.cpu.logical.count'
      AND time_ns BETWEEN $since_ns AND $until_ns
    GROUP BY host
),
-- Who does not say how many tells of each.
told_apart AS (
    SELECT host, count(DISTINCT attributes['cpu.logical_number'])::DOUBLE AS cpus FROM series
    WHERE signal = 'system.cpu.time' AND part_of IS NOT NULL GROUP BY host
)
SELECT host, coalesce(counted.cpus, nullif(told_apart.cpus, 0)) AS cpus
FROM counted FULL JOIN told_apart USING (host);

CREATE OR REPLACE TEMP MACRO at_least(rise, interval_ns, overlap_ns, speed) AS
    greatest(0, rise - (interval_ns - overlap_ns) * speed);

CREATE OR REPLACE TEMP TABLE seen AS
WITH overlapping AS (
    SELECT
        stretch_no, request_no, visit_no, piece_no, peer, stretch.from_ns AS stretch_from, stretch.to_ns AS stretch_to,
        series, signal, reading.attributes, rise,
        reading.to_ns - reading.from_ns AS interval_ns,
        least(reading.to_ns, stretch.to_ns) - greatest(reading.from_ns, stretch.from_ns) AS overlap_ns,
        CASE WHEN signal LIKE '%cpu.time' OR signal LIKE '%throttled' THEN coalesce(cpus.cpus, 1024) ELSE 1 END AS speed,
        signal LIKE '%.cpu.time' OR signal LIKE '%throttled' OR signal LIKE '%.pressure' OR signal LIKE '%io_time' AS is_time
    FROM stretch_second AS stretch
    JOIN reading_second AS reading
        ON reading.second = stretch.second AND reading.host = stretch.host
        AND stretch.second = first_second(reading.from_ns, stretch.from_ns)
        AND (reading.entity_id = stretch.container_id OR (reading.entity_type = 'host' AND NOT peer))
        AND reading.from_ns < stretch.to_ns AND reading.to_ns > stretch.from_ns
    LEFT JOIN cpus ON cpus.host = stretch.host
)
SELECT
    stretch_no, request_no, visit_no, piece_no, peer, series, signal, any_value(attributes) AS attributes,
    sum(rise * (overlap_ns / interval_ns)) AS estimate,
    sum(CASE WHEN is_time THEN at_least(rise, interval_ns, overlap_ns, speed)
             WHEN overlap_ns = interval_ns THEN rise ELSE 0 END) AS low,
    sum(CASE WHEN is_time THEN least(rise, overlap_ns * speed) ELSE rise END) AS high,
    sum(overlap_ns)::BIGINT AS covered_ns,
    any_value(stretch_to - stretch_from) AS stretch_ns
FROM overlapping
GROUP BY ALL;

-- Who else ran meanwhile, and how much of that was more than in the time before: a neighbour that always runs does not
-- explain why this request waited. Containers that may use none of the same CPUs cannot have been in the way.
CREATE OR REPLACE TEMP TABLE ran AS
WITH
others AS (
    SELECT
        visit.request_no, visit.visit_no, visit.from_ns, visit.to_ns, visit.cpuset,
        CASE WHEN signal = 'container.cpu.time' THEN 'container' ELSE 'process' END AS entity_type,
        CASE WHEN signal = 'container.cpu.time' THEN reading.entity_id
             ELSE reading.attributes['process.executable.name'] || ' (pid ' || reading.attributes['process.pid'] || ')' END
            AS entity_id,
        rise, reading.from_ns AS reading_from, reading.to_ns AS reading_to,
        min(greatest(reading.from_ns, visit.from_ns - 30_000_000_000)) OVER (PARTITION BY visit.request_no, visit.visit_no) AS since_ns
    FROM visit JOIN reading ON reading.host = visit.host
    WHERE signal IN ('container.cpu.time', 'system.process.cpu.time') AND (visit.wait_ns > 5_000_000 OR visit.covered_ns < visit.path_ns)
      AND reading.from_ns < visit.to_ns AND reading.to_ns > visit.from_ns - 30_000_000_000
      AND (signal <> 'container.cpu.time' OR reading.entity_id IS DISTINCT FROM visit.container_id)
),
sums AS (
    SELECT
        request_no, visit_no, entity_type, entity_id, any_value(cpuset) AS cpuset,
        sum(rise * (greatest(0, least(reading_to, to_ns) - greatest(reading_from, from_ns)) / (reading_to - reading_from))) AS ran_ns,
        -- the half minute before it, at the same length; who was not there yet did not run
        sum(rise * (greatest(0, reading_to - greatest(reading_from, since_ns)) / (reading_to - reading_from))) FILTER (reading_to <= from_ns)
            / any_value(nullif(greatest(0, from_ns - since_ns), 0)) * any_value(to_ns - from_ns) AS before_ns
    FROM others GROUP BY request_no, visit_no, entity_type, entity_id
)
SELECT request_no, visit_no, entity_type, entity_id, ran_ns::BIGINT AS ran_ns,
       greatest(0, ran_ns - coalesce(before_ns, 0))::BIGINT AS more_ns
FROM sums
LEFT JOIN container ON entity_type = 'container' AND container.container_id = entity_id
WHERE ran_ns >= 1 AND coalesce(list_has_any(cpuset, cpus_of(container.attributes['layerline.container.cpuset'])), true);

-- A container that was first read only after the visit had then what it has now.
CREATE OR REPLACE TEMP TABLE level AS
WITH first_read AS (
    SELECT entity_id AS container_id, min(to_ns) AS first_ns FROM reading WHERE signal = 'container.cpu.time' GROUP BY ALL
)
SELECT visit.request_no, visit.visit_no, signal, series.attributes,
       coalesce(arg_max(value, time_ns) FILTER (time_ns - 2_000_000_000 <= visit.to_ns), arg_min(value, time_ns)) AS value
FROM visit
LEFT JOIN first_read USING (container_id)
JOIN series ON series.entity_id = visit.container_id AND kind = 'gauge'
    AND signal IN ('container.cpu.limit', 'container.disk.limit', 'container.disk.operations.limit', 'container.memory.limit', 'container.memory.usage')
JOIN point ON point.series = series.series
WHERE point.time_ns + 20_000_000_000 >= visit.from_ns
  AND point.time_ns - CASE WHEN first_ns > visit.to_ns THEN 20_000_000_000 ELSE 2_000_000_000 END <= visit.to_ns
  AND point.time_ns BETWEEN $since_ns AND $until_ns
GROUP BY visit.request_no, visit.visit_no, signal, series.series, series.attributes;

-- What was measured where: the words a cause's `needs` may name.
CREATE OR REPLACE TEMP TABLE fact AS
SELECT request_no, visit_no, 'layerline.account' AS name FROM visit
QUALIFY covered_ns >= 0.9 * path_ns OR path_ns - covered_ns <= 0.02 * sum(path_ns) OVER (PARTITION BY request_no)
UNION ALL
SELECT request_no, visit_no, 'layerline.container.throttled_ns' FROM visit WHERE throttled_ns IS NOT NULL
UNION ALL
SELECT request_no, visit_no, 'layerline.container.usage_ns' FROM visit WHERE usage_ns IS NOT NULL
UNION ALL
SELECT request_no, visit_no, 'layerline.thread.blkio_ns' FROM piece
GROUP BY ALL HAVING bool_or(blkio_ns IS NOT NULL)
UNION ALL
SELECT request_no, visit_no, signal FROM seen WHERE piece_no IS NULL
GROUP BY ALL HAVING max(covered_ns / stretch_ns) >= 0.9
UNION ALL
SELECT request_no, visit_no, 'layerline.container.refaults' FROM visit WHERE refaults IS NOT NULL
UNION ALL
-- Nobody needs to look at what was over before a look was due, nor at what was measured to run all the time.
SELECT piece.request_no, piece.visit_no, 'layerline.samples'
FROM piece LEFT JOIN sampled USING (piece_no)
GROUP BY ALL
HAVING coalesce(sum(looks), 0) > 0 OR sum(length_ns) < 150_000_000 OR sum(off_ns) < 0.2 * sum(length_ns)
UNION ALL
SELECT request_no, visit_no, 'layerline.accept_wait_ns' FROM piece GROUP BY ALL HAVING bool_or(accept_wait_ns IS NOT NULL)
UNION ALL
SELECT visit.request_no, visit.visit_no, 'container events'
FROM visit JOIN container USING (container_id) WHERE described;
