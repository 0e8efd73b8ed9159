-- Containers that lived in a window: when each began and ended, and what it used, with what can have been added unseen.
--
-- In:  $from_ns, $to_ns, and the views of that window and the minute before it (summaries/cover.py), those minutes apart in
--      which a container began or ended; $keys and $values, attributes and the patterns that they must match (GLOB), pairwise.
-- Out: one row per container and total, ordered by when the container was first seen.
-- A run is a life from a start to a death; a container that is started again has several, whose totals add up.
WITH
told AS (
    SELECT container_id, time_ns, name, TRY_CAST(event.attributes['process.exit.code'] AS BIGINT) AS exit_code
    FROM event JOIN resource USING (resource)
    WHERE container_id IS NOT NULL AND time_ns < $to_ns
),
-- What was read in the window, and in the minute before it: who died early in the window was read before.
point_row AS (
    SELECT series, first_ns, last_ns, last_value FROM point_summed
    UNION ALL SELECT series, time_ns, time_ns, value FROM point_beside
),
container_series AS (
    SELECT series, entity_id AS container_id, signal, attributes, kind, resource FROM series
    WHERE entity_type = 'container' AND part_of IS NULL
),
last_of AS MATERIALIZED (
    SELECT series, min(first_ns) AS first_ns, max(last_ns) AS time_ns, arg_max(last_value, last_ns) AS value
    FROM point_row GROUP BY series
),
-- Who sent spans, and the container it was tied to.
sender AS (
    SELECT DISTINCT resource, container_id, service FROM tagged($from_ns, $to_ns)
    WHERE container_id IS NOT NULL AND service IS NOT NULL
),
span_of AS MATERIALIZED (
    SELECT container_id, start_ns, end_ns, thread_cpu_ns, thread_blocks_read, container_throttled_ns
    FROM (
        SELECT
            resource, first_ns AS start_ns, last_ns AS end_ns, cpu_ns AS thread_cpu_ns,
            blocks_read AS thread_blocks_read, throttled_ns AS container_throttled_ns
        FROM span_summed
        UNION ALL
        SELECT resource, start_ns, end_ns, thread_cpu_ns, thread_blocks_read, container_throttled_ns FROM span_beside
    )
    JOIN sender USING (resource)
    WHERE container_id IS NOT NULL
),
seen AS (
    SELECT container_id, min(first_ns) AS first_ns, max(last_ns) AS last_ns
    FROM (SELECT container_id, min(time_ns) AS first_ns, max(time_ns) AS last_ns FROM told GROUP BY ALL
          UNION ALL
          SELECT container_id, min(first_ns), max(time_ns)
          FROM last_of JOIN container_series USING (series) GROUP BY ALL
          UNION ALL SELECT container_id, min(start_ns), max(end_ns) FROM span_of GROUP BY ALL)
    GROUP BY container_id
),
-- Run 0 is the one that nobody saw begin.
begun AS (
    SELECT container_id, time_ns AS started_ns, row_number() OVER each AS run_no, lead(time_ns) OVER each AS next_ns
    FROM told WHERE name = 'container.start'
    WINDOW each AS (PARTITION BY container_id ORDER BY time_ns)
    UNION ALL
    SELECT seen.container_id, NULL, 0, min(time_ns) FILTER (name = 'container.start')
    FROM seen LEFT JOIN told USING (container_id)
    GROUP BY seen.container_id, first_ns
    HAVING first_ns < coalesce(min(time_ns) FILTER (name = 'container.start'), first_ns + 1)
),
-- Of a container with one run, whatever was read is of that run: the last value says it. Of others each value is looked at.
started_again AS (
    SELECT container_id FROM begun GROUP BY container_id HAVING count(*) > 1
),
point_of AS MATERIALIZED (
    SELECT container_id, signal, attributes, kind, resource, time_ns, value
    FROM last_of JOIN container_series USING (series)
    WHERE container_id NOT IN (FROM started_again)
    UNION ALL
    SELECT container_id, signal, attributes, kind, resource, last_ns, last_value
    FROM point_row JOIN container_series USING (series)
    WHERE container_id IN (FROM started_again)
),
run AS (
    SELECT
        begun.container_id, run_no, started_ns, next_ns,
        min(time_ns) AS ended_ns, arg_min(exit_code, time_ns) AS exit_code
    FROM begun
    LEFT JOIN told
        ON told.container_id = begun.container_id AND name = 'container.die'
        AND time_ns >= coalesce(started_ns, 0) AND time_ns < coalesce(next_ns, $to_ns)
    GROUP BY ALL
),
wanted(total, signal, direction) AS (
    VALUES ('cpu.time', 'container.cpu.time', NULL), ('cpu.throttled', 'container.cpu.throttled', NULL),
           ('disk.io.read', 'container.disk.io', 'read'), ('disk.io.write', 'container.disk.io', 'write')
),
-- A container that was renamed is another series of the same counter; each device is a counter of its own.
counter AS (
    SELECT run.container_id, run_no, total, point_of.attributes,
           arg_max(value, time_ns)::BIGINT AS value, max(time_ns) AS read_ns
    FROM run
    JOIN point_of
        ON point_of.container_id = run.container_id AND kind = 'cumulative'
        AND time_ns >= coalesce(started_ns, 0) AND time_ns < coalesce(next_ns, $to_ns)
    JOIN wanted ON wanted.signal = point_of.signal
        AND (direction IS NULL OR direction = point_of.attributes['disk.io.direction'])
    GROUP BY ALL
),
reading AS (
    SELECT container_id, run_no, total, sum(value)::BIGINT AS value, max(read_ns) AS read_ns FROM counter GROUP BY ALL
    UNION ALL
    -- It had touched no device: the agent says so by its operations.
    SELECT run.container_id, run_no, total, 0, max(time_ns)
    FROM run
    JOIN point_of
        ON point_of.container_id = run.container_id AND signal = 'container.disk.operations'
        AND point_of.attributes['system.device'] = 'none'
        AND time_ns >= coalesce(started_ns, 0) AND time_ns < coalesce(next_ns, $to_ns)
    JOIN wanted ON direction = point_of.attributes['disk.io.direction']
    ANTI JOIN counter AS touched
        ON touched.container_id = run.container_id AND touched.run_no = run.run_no AND touched.total = wanted.total
    GROUP BY ALL
),
-- A quota that was there at any time; where the agent's own cgroup readings show none, nothing can have been withheld.
quota AS (
    SELECT run.container_id, run_no, bool_or(signal = 'container.cpu.limit') AS limited,
           bool_or(resource.attributes['layerline.reading.source'] IS NULL
                   AND resource.attributes['layerline.boot_id'] IS NOT NULL) AS by_cgroup
    FROM run
    JOIN point_of
        ON point_of.container_id = run.container_id
        AND time_ns >= coalesce(started_ns, 0) AND time_ns < coalesce(next_ns, $to_ns)
    JOIN resource USING (resource)
    GROUP BY ALL
),
-- What the wrapper flushed is at least what was used: a thread's time is in one span only. Meters of spans overlap, and
-- only the largest counts.
flushed AS (
    SELECT run.container_id, run_no, in_bounds(sum(in_bounds(thread_cpu_ns)))::BIGINT AS cpu_ns,
           max(container_throttled_ns) AS throttled_ns,
           in_bounds(sum(in_bounds(thread_blocks_read)))::BIGINT * 512 AS read_bytes
    FROM run
    JOIN span_of
        ON span_of.container_id = run.container_id
        AND start_ns >= coalesce(started_ns, 0) - 1_000_000_000 AND start_ns < coalesce(next_ns, $to_ns)
    GROUP BY ALL
),
machine AS (
    SELECT host, arg_max(value, time_ns) AS cpus
    FROM last_of JOIN series USING (series)
    WHERE signal = 'system.cpu.logical.count'
    GROUP BY host
),
who AS (
    SELECT
        seen.container_id, first_ns, last_ns, container.shown_name AS name, container.image, host.name AS host_name,
        least(machine.cpus, nullif(len(cpus_of(container.attributes['layerline.container.cpuset'])), 0)) AS cpus,
        map_concat( -- noqa: PRS
                   coalesce(host.attributes, MAP {}),
                   coalesce(container.attributes, MAP {}),
                   CASE WHEN service IS NULL THEN MAP {} ELSE MAP {'service.name': service} END
        ) AS tags
    FROM seen
    LEFT JOIN container ON container.container_id = seen.container_id
    LEFT JOIN host ON host.host = container.host
    LEFT JOIN machine ON machine.host = container.host
    LEFT JOIN (SELECT container_id, min(service) AS service FROM sender GROUP BY container_id) AS serving
        ON serving.container_id = seen.container_id
),
bounds AS (
    SELECT
        run.*, total, who.cpus, read_ns, coalesce(ended_ns, read_ns) - read_ns AS left_ns,
        CASE total
            WHEN 'cpu.time' THEN cpu_ns
            WHEN 'cpu.throttled' THEN throttled_ns
            WHEN 'disk.io.read' THEN read_bytes
        END
            AS flushed,
        value, total = 'cpu.throttled' AND by_cgroup AND NOT limited AS cannot_grow
    FROM run
    JOIN who USING (container_id)
    CROSS JOIN wanted
    LEFT JOIN reading USING (container_id, run_no, total)
    LEFT JOIN quota USING (container_id, run_no)
    LEFT JOIN flushed USING (container_id, run_no)
),
-- Between the last reading and the end all its CPUs can have been busy, or withheld; bytes have no such bound.
of_run AS (
    SELECT
        *,
        greatest(value, flushed) AS low,
        CASE
            WHEN value IS NULL THEN NULL
            WHEN left_ns <= 0 OR cannot_grow THEN greatest(value, flushed)
            WHEN total IN ('cpu.time', 'cpu.throttled') THEN greatest(value + (cpus * left_ns)::BIGINT, flushed)
        END AS high
    FROM bounds
)
SELECT
    container_id, any_value(who.name) AS name, any_value(who.image) AS image, any_value(who.host_name) AS host,
    any_value(who.tags) AS tags,
    arg_max(struct_pack(v := started_ns), run_no).v AS started_ns,
    arg_max(struct_pack(v := ended_ns), run_no).v AS ended_ns,
    arg_max(struct_pack(v := exit_code), run_no).v AS exit_code,
    any_value(who.first_ns) AS first_ns, any_value(who.last_ns) AS last_ns, count(*) AS runs, total,
    sum(low)::BIGINT AS low,
    CASE WHEN count(high) = count(*) THEN sum(high)::BIGINT END AS high
FROM of_run
JOIN who USING (container_id)
GROUP BY container_id, total
HAVING any_value(who.last_ns) >= $from_ns
   AND coalesce(list_bool_and(list_transform(list_zip($keys::VARCHAR[], $values::VARCHAR[]), lambda wish:
           coalesce(
               coalesce(any_value(who.tags)[wish[1]], any_value(who.tags)['container.label.' || wish[1]]) GLOB wish[2],
               FALSE))), TRUE)
ORDER BY first_ns, container_id, total
