-- What the world did, said once: who is heard of those that report the same, how much a counter grew over each interval, which
-- level held. Ledgers, suspects, timeline, tag queries and incidents stand on this and work out none of it themselves.

-- A longer interval says nothing about the request inside it: what passed between two values so far apart is not known.
CREATE OR REPLACE MACRO longest_interval_ns() AS seconds_long(120);

-- Whether a counter began again between two of its values. A small fall is a step back: the kernel lets iowait and stolen time
-- decrease by some ticks (proc(5)), and counting the whole value then would charge one interval with all the time since boot.
-- So it fell to less than half; or to less than nine tenths, and says that it began after the value before. Shares and not ticks,
-- because the unit and resolution of a counter are not known here. A counter that wraps (at 2^32 or 2^64) falls to near zero and
-- is taken for one that began again: it grew by at least its value, and by how much more depends on a width that nobody reports.
CREATE OR REPLACE MACRO began_again(start_ns, before_ns, value, before_value) AS
    value < CASE WHEN start_ns > before_ns THEN 0.9 ELSE 0.5 END * before_value;

-- The seconds of a stretch in which there can be readings: of one that says it lasted for centuries those are few.
CREATE OR REPLACE MACRO seconds_read(from_ns, to_ns, since_ns, until_ns) AS
    seconds_touched(greatest(from_ns, since_ns - longest_interval_ns()), least(to_ns, until_ns));

-- No counter grows by more in an interval: 11 days of CPU time, a petabyte, in two minutes. Whoever reports more is not believed
-- beyond that, so that sums over thousands of them, and their products with shares and CPUs, stay within 64 bits.
CREATE OR REPLACE MACRO largest_rise() AS 1e15;

-- Where the growth that a value reports began, and how much it is. `before` is the value before it in the same counter. One
-- that began again, or whose start moved past the last value, grew by its value since its start; one that stepped back did not
-- grow. Only our agent (`ours`) says when a counter began; others report when they themselves started, though the counter was
-- old: their start is believed only where the value fell too. Of differences (`delta`), what was reported already is not
-- reported twice.
CREATE OR REPLACE MACRO rose_from(kind, ours, start_ns, before_ns, value, before_value) AS
    CASE WHEN kind = 'delta' OR ours AND (before_ns IS NULL OR start_ns > before_ns)
         THEN greatest(start_ns, coalesce(before_ns, 0))
         ELSE before_ns END;
CREATE OR REPLACE MACRO rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) AS
    greatest(0, least(largest_rise(),
    CASE WHEN kind = 'delta' AND before_ns > start_ns AND 0 < start_ns AND start_ns < time_ns
         THEN value * ((time_ns - before_ns) / (time_ns - start_ns))
         WHEN kind = 'delta' OR began_again(start_ns, before_ns, value, before_value)
           OR ours AND (before_ns IS NULL OR start_ns > before_ns) THEN value
         ELSE value - before_value END));

-- Which series report what, and who sends each. `wanted` is a list of series.
-- Out: series, signal, unit, kind, entity_type, entity_id, host, attributes (of the figure, without what tells its parts
-- apart), is_part (one CPU of all, one mode of all), ours, sender, and line: the same counter or gauge reported by the same
-- sender under several descriptions (a container that was renamed) is one line.
CREATE OR REPLACE MACRO lines_of(wanted) AS TABLE
WITH described AS (
    SELECT
        series.series, signal, unit, kind, entity_type, entity_id, series.host, series.attributes AS all_attributes,
        coalesce(part_of, series.attributes) AS attributes, part_of IS NOT NULL AS is_part,
        resource.attributes['layerline.boot_id'] IS NOT NULL AS ours,
        CASE WHEN ours THEN 'layerline' ELSE series.resource END AS sender
    FROM series
    LEFT JOIN resource ON resource.resource = series.resource
    WHERE series.series IN (SELECT unnest(wanted))
),
-- A window would do it in one word, and costs ten times as much: it has a price for each partition, and hardly any line has two.
described_lines AS (
    SELECT min(series) AS line, unnest(list(series)) AS series
    FROM described
    GROUP BY entity_type, entity_id, signal, all_attributes, sender
)
SELECT described.* EXCLUDE (all_attributes), line
FROM described JOIN described_lines ON described_lines.series = described.series;

-- Where several senders report the same signal of an entity, one is heard, the one with place 1. Of those that saw at least half
-- as much of the time as the one that saw most: our agent, else the one that reports the whole, else the one that reports most
-- often.
CREATE OR REPLACE MACRO sees_enough(entity_type, entity_id, signal, covered_ns) AS
    covered_ns >= 0.5 * max(covered_ns) OVER (PARTITION BY entity_type, entity_id, signal);
CREATE OR REPLACE MACRO teller_place(entity_type, entity_id, signal, saw_enough, ours, is_part, readings, sender) AS
    row_number() OVER (
        PARTITION BY entity_type, entity_id, signal ORDER BY saw_enough DESC, ours DESC, is_part, readings DESC, sender
    );

-- Every growth that is heard, each line for itself: one row per interval. Of the series in `brief`, which are among the wanted,
-- only intervals that touch the time from `near_from` to `near_to` come out; they are heard by all that they reported.
-- Out: line, line_no (the same as a number), signal, unit, entity_type, entity_id, host, attributes, is_part, from_ns, to_ns,
-- rise.
CREATE OR REPLACE MACRO rises_of(
    wanted, since_ns, until_ns, brief := [], near_from := 0, near_to := 0
) AS TABLE
WITH
-- Points are sorted by a number: it costs a quarter less than by a series' 24 digits.
lines AS MATERIALIZED (
    SELECT
        *, dense_rank() OVER (ORDER BY line) AS line_no, coalesce(list_contains(brief, series), FALSE) AS is_brief
    FROM lines_of(wanted) WHERE kind IN ('cumulative', 'delta')
),
steps AS (
    SELECT
        line_no, is_brief, kind, ours, point.start_ns, point.time_ns, point.value,
        lag(point.time_ns) OVER each AS before_ns, lag(point.value) OVER each AS before_value
    FROM point JOIN lines ON lines.series = point.series
    WHERE point.time_ns BETWEEN since_ns AND until_ns
    WINDOW each AS (PARTITION BY line_no ORDER BY point.time_ns)
),
grown AS (
    SELECT
        line_no, is_brief, time_ns AS to_ns,
        rose_from(kind, ours, start_ns, before_ns, value, before_value)        AS from_ns,
        rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) AS rise
    FROM steps
),
intervals AS MATERIALIZED (
    FROM grown WHERE to_ns - from_ns BETWEEN 1 AND longest_interval_ns()
),
counters AS (SELECT DISTINCT ON (line_no) * EXCLUDE (series, is_brief) FROM lines),
contested AS (
    SELECT entity_type, entity_id, signal FROM counters GROUP BY ALL HAVING count(DISTINCT (sender, is_part)) > 1
),
rivals AS (
    SELECT entity_type, entity_id, signal, sender, is_part, any_value(ours) AS ours,
           count(*) AS readings, sum(to_ns - from_ns) / count(DISTINCT line_no) AS covered_ns
    FROM counters
    SEMI JOIN contested USING (entity_type, entity_id, signal)
    JOIN intervals USING (line_no)
    GROUP BY entity_type, entity_id, signal, sender, is_part
),
saw AS (
    SELECT *, sees_enough(entity_type, entity_id, signal, covered_ns) AS saw_enough
    FROM rivals
),
unheard AS (
    FROM saw
    QUALIFY teller_place(entity_type, entity_id, signal, saw_enough, ours, is_part, readings, sender) > 1
),
heard AS (
    FROM counters ANTI JOIN unheard USING (entity_type, entity_id, signal, sender, is_part)
)
SELECT line, line_no, signal, unit, entity_type, entity_id, host, attributes, is_part, from_ns, to_ns, rise
FROM intervals JOIN heard USING (line_no)
WHERE NOT is_brief OR (to_ns > near_from AND from_ns < near_to);

-- The same as figures: the shares of all CPUs, of all modes, added up. The intervals of one line do not overlap.
CREATE OR REPLACE MACRO readings_of(
    wanted, since_ns, until_ns, brief := [], near_from := 0, near_to := 0
) AS TABLE
WITH rises AS MATERIALIZED (
    FROM rises_of(wanted, since_ns, until_ns, brief := brief, near_from := near_from, near_to := near_to)
)
SELECT * EXCLUDE (is_part) FROM rises WHERE NOT is_part
UNION ALL
SELECT
    min(line), min(line_no), signal, unit, entity_type, entity_id, host, attributes, from_ns, to_ns, sum(rise)
FROM rises
WHERE is_part
GROUP BY signal, unit, entity_type, entity_id, host, attributes, from_ns, to_ns;

-- The levels that held: one row per value of an entity, a signal and its attributes, until the next value of the same, at
-- most for as long as a reading may be. Who is heard is decided as for counters.
-- Out: line, signal, unit, entity_type, entity_id, host, attributes, is_part, from_ns, to_ns, value.
CREATE OR REPLACE MACRO levels_of(wanted, since_ns, until_ns) AS TABLE
WITH
lines AS MATERIALIZED (FROM lines_of(wanted) WHERE kind = 'gauge'),
rivals AS (
    SELECT entity_type, entity_id, signal, sender, is_part, any_value(ours) AS ours, count(*) AS readings,
           max(point.time_ns) - min(point.time_ns) AS covered_ns
    FROM point JOIN lines ON lines.series = point.series
    WHERE point.time_ns BETWEEN since_ns AND until_ns
    GROUP BY ALL
),
saw AS (
    SELECT *, sees_enough(entity_type, entity_id, signal, covered_ns) AS saw_enough
    FROM rivals
),
heard AS (
    FROM saw
    QUALIFY teller_place(entity_type, entity_id, signal, saw_enough, ours, is_part, readings, sender) = 1
)
SELECT
    line, signal, unit, entity_type, entity_id, host, attributes, is_part, point.time_ns AS from_ns,
    least(lead(point.time_ns) OVER (PARTITION BY line ORDER BY point.time_ns),
          point.time_ns + longest_interval_ns()) AS to_ns,
    point.value
FROM point
JOIN lines ON lines.series = point.series
SEMI JOIN heard USING (entity_type, entity_id, signal, sender, is_part)
WHERE point.time_ns BETWEEN since_ns AND until_ns;

-- How many CPUs each machine has: as it says, else as many as it reports one by one.
-- Out: host, cpus.
CREATE OR REPLACE MACRO cpu_counts(since_ns, until_ns) AS TABLE
WITH
stated AS (
    SELECT host, arg_max(value, time_ns) AS cpus
    FROM series JOIN point ON point.series = series.series
    WHERE signal = 'system.cpu.logical.count' AND time_ns BETWEEN since_ns AND until_ns
    GROUP BY host
),
listed AS (
    SELECT host, count(DISTINCT attributes['cpu.logical_number'])::DOUBLE AS cpus
    FROM series
    WHERE signal = 'system.cpu.time' AND part_of IS NOT NULL
    GROUP BY host
)
SELECT host, coalesce(stated.cpus, nullif(listed.cpus, 0)) AS cpus
FROM stated FULL JOIN listed USING (host);
