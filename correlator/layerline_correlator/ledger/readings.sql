-- The time join: how much each counter grew during each stretch of the batch's requests.
--
-- Inside one reading's interval nothing is known but its increase: `low` and `high` say so.

-- A stretch is a visit, a stretch of a piece that readings can explain, or (`peer`) the same at the other end of a call. Of a
-- visit all counters are wanted; of a piece those of the disks, where its thread can have waited for one, and of the network,
-- where it is a call.
-- makes: stretch
-- reads: measured_piece, measured_visit, segment, callee
CREATE OR REPLACE TEMP TABLE stretch AS
WITH
explained AS (
    SELECT
        measured_piece.*, segment.from_ns AS part_from, segment.to_ns AS part_to,
        moved_blocks OR NOT is_client(kind) AS of_disks, is_client(kind) AS of_network
    FROM measured_piece
    JOIN segment ON segment.request_no = measured_piece.request_no AND segment.span_no = measured_piece.span_no
    WHERE (off_ns > 0 AND moved_blocks) OR dark_ns > 0 OR (is_client(kind) AND off_ns > ms_of(10))
),
windows AS (
    SELECT
        request_no, visit_no, NULL::BIGINT AS piece_no, FALSE AS peer, container_id, host, from_ns, to_ns,
        TRUE AS of_disks, TRUE AS of_network
    FROM measured_visit
    WHERE to_ns > from_ns
    UNION ALL
    SELECT request_no, visit_no, piece_no, FALSE, container_id, host, part_from, part_to, of_disks, of_network
    FROM explained
    UNION ALL
    SELECT
        request_no, visit_no, piece_no, TRUE, callee.container_id, callee.host, part_from, part_to, FALSE, of_network
    FROM explained JOIN callee USING (piece_no)
)
SELECT row_number() OVER () AS stretch_no, * FROM windows;

-- The calls whose other end can have been late.
-- makes: late_call
-- reads: stretch
-- only with: callee
CREATE OR REPLACE TEMP TABLE late_call AS
SELECT DISTINCT piece_no FROM stretch WHERE peer;

-- The visits whose limits matter: throttled, blocked, or not measured.
-- makes: limited_visit
-- reads: measured_visit, measured_piece
CREATE OR REPLACE TEMP TABLE limited_visit AS
SELECT request_no, visit_no FROM measured_visit WHERE throttled_ns > 0 OR covered_ns < path_ns
UNION
SELECT request_no, visit_no FROM measured_piece WHERE moved_blocks;

-- The series that can say anything of these stretches: of their containers and machines, and of who else ran on the machine
-- or used its disks where somebody waited for those. `is_brief`: only what it says of the stretches themselves, and of the half
-- minute before, is wanted. What a container's own counters said long before and after matters where something was not measured:
-- what they grow by while nothing is at work (inferred.sql). When a container or a machine was read at all, its CPU time says.
-- makes: near_series
-- reads: stretch, waiting_visit, measured_piece, dark_piece
CREATE OR REPLACE TEMP TABLE near_series AS
WITH
wanted(signal, of_whom) AS (
    VALUES
        ('container.cpu.time', 'own'), ('container.cpu.throttled', 'own'), ('container.cpu.throttled_periods', 'own'),
        ('container.ancestor.cpu.throttled', 'not counted below'),
        ('container.cpu.pressure', 'own'), ('container.io.pressure', 'own'), ('container.disk.io', 'own'),
        ('container.memory.refaults', 'own'),
        ('container.memory.limit_hits', 'own'),
        ('container.memory.pressure', 'own'),
        ('container.network.tcp.retransmits', 'own'), ('container.network.tcp.needless_retransmits', 'own'),
        ('container.cpu.limit', 'own'), ('container.disk.limit', 'own'),
        ('container.cpu.quota', 'own'), ('container.cpu.quota.period', 'own'),
        ('container.cpu.limit_utilization', 'own'),
        ('container.disk.operations.limit', 'own'),
        ('container.memory.limit', 'own'),
        ('container.memory.usage', 'own'), ('container.memory.working_set', 'own'),
        ('container.memory.limit_utilization', 'own'), ('container.memory.major_faults', 'own'),
        ('container.ancestor.memory.limit_hits', 'own'), ('container.ancestor.memory.usage', 'own'),
        ('container.ancestor.disk.io', 'own'),
        ('container.disk.operations', 'own'), ('container.ancestor.disk.operations', 'own'),
        ('container.ancestor.cpu.limit', 'own'), ('container.ancestor.memory.limit', 'own'),
        ('container.ancestor.disk.limit', 'own'), ('container.ancestor.disk.operations.limit', 'own'),
        ('system.cpu.time', 'own'), ('system.io.pressure', 'own'), ('system.disk.io_time', 'own'),
        ('system.memory.pressure', 'own'), ('system.network.io', 'own'), ('system.network.dropped', 'own'),
        ('system.network.tcp.retransmits', 'own'),
        ('system.cpu.credits', 'own'), ('system.disk.limit_exceeded', 'own'), ('system.disk.burst_balance', 'own'),
        ('system.disk.limit_utilization', 'own'), ('system.disk.throttled_operations', 'own'),
        ('system.network.allowance_exceeded', 'own'),
        ('container.cpu.time', 'neighbours of waits'), ('system.process.cpu.time', 'neighbours of waits'),
        ('container.disk.io', 'neighbours of blocks')
),
own AS (SELECT DISTINCT host, container_id FROM stretch),
waiting AS (SELECT DISTINCT host FROM waiting_visit),
moving AS (SELECT DISTINCT host FROM measured_piece WHERE moved_blocks OR dark_ns > 0),
counts_own AS (
    SELECT resource FROM resource
    WHERE service IS NULL AND attributes['layerline.container.throttled_scope'] = 'own')
SELECT
    series, kind, signal, entity_id,
    NOT bool_or(of_whom IN ('own', 'not counted below') AND (
        signal IN ('container.cpu.time', 'system.cpu.time')
        OR (signal IN ('container.cpu.throttled', 'container.cpu.throttled_periods', 'container.cpu.pressure',
                       'container.io.pressure', 'container.ancestor.cpu.throttled')
            AND EXISTS (FROM dark_piece)))) AS is_brief
FROM series
JOIN wanted USING (signal)
WHERE CASE of_whom
          WHEN 'own' THEN (host, entity_id) IN (SELECT (host, container_id) FROM own)
                          OR (entity_type = 'host' AND host IN (SELECT host FROM own))
          WHEN 'neighbours of waits' THEN host IN (SELECT host FROM waiting)
          -- Before Linux 6.5 a container's own counter leaves out what a quota above it withheld.
          WHEN 'not counted below' THEN (host, entity_id) IN (SELECT (host, container_id) FROM own)
                                        AND resource IN (FROM counts_own)
          ELSE host IN (SELECT host FROM moving)
      END
GROUP BY series, kind, signal, entity_id;

-- makes: reading
-- reads: near_series, stretch
-- only with: near_series
CREATE OR REPLACE TEMP TABLE reading AS
-- What a quota above a container withheld from it, and its own counter leaves out, is throttled time of that container.
SELECT * REPLACE (
    CASE WHEN signal = 'container.ancestor.cpu.throttled' THEN 'container.cpu.throttled' ELSE signal END AS signal)
FROM readings_of(
    (SELECT list(series) FROM near_series WHERE kind <> 'gauge'), $since_ns, $until_ns,
    brief := (SELECT list(series) FROM near_series WHERE is_brief),
    near_from := (SELECT min(from_ns) - seconds_long(30) FROM stretch),
    near_to := (SELECT max(to_ns) FROM stretch)
);

-- The machines that our agent reads.
-- makes: read_host
-- reads: reading
-- only with: reading
CREATE OR REPLACE TEMP TABLE read_host AS
SELECT DISTINCT host FROM series
WHERE series IN (SELECT line FROM reading)
  AND resource IN (
      SELECT resource FROM resource WHERE service IS NULL AND attributes['layerline.boot_id'] IS NOT NULL);

-- Several CPUs may run at once: how much faster than the clock a counter that sums over CPUs can grow.
-- makes: cpu_count
-- reads: stretch
CREATE OR REPLACE TEMP TABLE cpu_count AS
FROM cpu_counts($since_ns, $until_ns) SEMI JOIN stretch USING (host);

-- What was read while the stretches lasted, once for each second that an interval touches, with what the join must know of the
-- counter: `of_whom` is the container, or '' for the machine. What the machine's own processes ran is nobody's (`named_run`).
-- makes: reading_second
-- reads: stretch, reading, cpu_count
-- only with: reading
CREATE OR REPLACE TEMP TABLE reading_second AS
SELECT
    line_no, reading.signal, reading.host, entity_id, from_ns, to_ns, rise,
    CASE WHEN reading.entity_type = 'host' THEN '' ELSE entity_id END AS of_whom,
    attributes['cpu.mode']                                  AS cpu_mode,
    attributes['pressure.kind']                             AS pressure_kind,
    attributes['disk.io.direction']                         AS disk_direction,
    attributes['network.interface.name']                    AS interface,
    attributes['layerline.cgroup']                          AS cgroup,
    CASE WHEN additive = 'cpus' THEN coalesce(cpu_count.cpus, many_cpus()) ELSE 1 END AS speed,
    -- Time of something that runs at most `speed` times as fast as the clock; other counters may grow in one moment.
    coalesce(additive IN ('cpus', 'union'), FALSE)          AS is_time,
    -- What is wanted of a piece; of some counters only whether they grew.
    reading.signal IN (
        'container.disk.io', 'container.ancestor.disk.io', 'container.disk.operations',
        'container.ancestor.disk.operations', 'container.io.pressure', 'system.io.pressure', 'system.disk.io_time',
        'container.memory.major_faults', 'container.memory.refaults'
    ) AS of_disks,
    reading.signal IN (
        'system.network.io', 'system.network.dropped', 'container.network.tcp.retransmits',
        'container.network.tcp.needless_retransmits'
    ) AS of_network,
    rise > 0 OR reading.signal NOT IN (
        'container.memory.major_faults', 'container.memory.refaults', 'container.network.tcp.retransmits',
        'container.network.tcp.needless_retransmits'
    ) AS says_something,
    unnest(seconds_touched(from_ns, to_ns)) AS second
FROM reading
LEFT JOIN signal ON signal.signal = reading.signal
LEFT JOIN cpu_count ON cpu_count.host = reading.host
WHERE to_ns > (SELECT min(from_ns) FROM stretch) AND from_ns < (SELECT max(to_ns) FROM stretch)
  AND reading.signal <> 'system.process.cpu.time';

-- How much each counter grew during each stretch: estimate, low, high, and how much of the stretch the readings cover.
-- makes: seen
-- reads: stretch, reading_second
-- only with: reading_second
CREATE OR REPLACE TEMP TABLE seen AS
WITH
stretch_second AS (
    SELECT *, to_ns - from_ns AS stretch_ns, unnest(seconds_read(from_ns, to_ns, $since_ns, $until_ns)) AS second
    FROM stretch
),
-- Its container's counters, and the machine's unless it is the other end of a call.
asked AS (
    SELECT *, unnest([container_id, CASE WHEN NOT peer THEN '' END]) AS of_whom FROM stretch_second
),
overlapping AS (
    SELECT
        stretch_no, request_no, visit_no, piece_no, peer, stretch_ns, line_no, rise, speed, is_time,
        told.to_ns - told.from_ns AS interval_ns,
        least(told.to_ns, asked.to_ns) - greatest(told.from_ns, asked.from_ns) AS shared_ns
    FROM asked
    JOIN reading_second AS told
        ON told.second = asked.second AND told.host = asked.host AND told.of_whom = asked.of_whom
        AND asked.second = first_second_of_both(told.from_ns, asked.from_ns)
        AND told.from_ns < asked.to_ns AND told.to_ns > asked.from_ns
    WHERE piece_no IS NULL
       OR (((asked.of_disks AND told.of_disks) OR (asked.of_network AND told.of_network)) AND says_something)
),
-- Numbers alone are added up, and the words of a line looked up last: a group by words costs several times as much.
sums AS (
    SELECT
        stretch_no, request_no, visit_no, piece_no, peer, stretch_ns, line_no,
        sum(rise * (shared_ns / interval_ns)) AS estimate,
        sum(CASE WHEN is_time THEN greatest(0, rise - (interval_ns - shared_ns) * speed)
                 WHEN shared_ns = interval_ns THEN rise ELSE 0 END) AS low,
        sum(CASE WHEN is_time THEN least(rise, shared_ns * speed) ELSE rise END) AS high,
        sum(shared_ns)::BIGINT AS covered_ns
    FROM overlapping
    GROUP BY ALL
),
lines AS (
    SELECT DISTINCT ON (line_no) line_no, signal, cpu_mode, pressure_kind, disk_direction, interface, cgroup
    FROM reading_second
)
SELECT
    stretch_no, request_no, visit_no, piece_no, peer, line_no, signal,
    cpu_mode, pressure_kind, disk_direction, interface, cgroup,
    estimate, low, high, covered_ns, stretch_ns
FROM sums JOIN lines USING (line_no);

-- The visits of which something may have waited for a CPU, each once: who ran beside it does not depend on the request.
-- makes: waiting_visit
-- reads: measured_visit
-- only where: measured_visit: wait_ns > ms_of(5) OR covered_ns < path_ns
CREATE OR REPLACE TEMP TABLE waiting_visit AS
SELECT DISTINCT ON (visit_no) visit_no, container_id, host, cpuset, from_ns, to_ns
FROM measured_visit WHERE wait_ns > ms_of(5) OR covered_ns < path_ns;

-- What ran on the machines meanwhile and in the half minute before, each line in order of time. `sum_ns` is what it had run
-- before. What has no name cannot be shown to anybody.
-- makes: named_run
-- reads: waiting_visit, reading
-- only with: waiting_visit, reading
CREATE OR REPLACE TEMP TABLE named_run AS
SELECT
    dense_rank() OVER (ORDER BY line) AS runner_no, host, entity_id AS container_id,
    CASE WHEN signal = 'container.cpu.time' THEN 'container' ELSE 'process' END AS entity_type,
    CASE WHEN signal = 'container.cpu.time' THEN entity_id
         ELSE attributes['process.executable.name'] || ' (pid ' || attributes['process.pid'] || ')' END AS name,
    from_ns, to_ns, rise,
    coalesce(sum(rise) OVER (PARTITION BY line ORDER BY to_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
        AS sum_ns
FROM reading
WHERE signal IN ('container.cpu.time', 'system.process.cpu.time')
  AND from_ns < (SELECT max(to_ns) FROM waiting_visit)
  AND to_ns > (SELECT min(from_ns) - seconds_long(30) FROM waiting_visit)
  AND name IS NOT NULL;

-- What each of them ran during each visit, and in the half minute before at the same length; whoever was not there yet did not
-- run. The readings of a line do not overlap, so that a time is a difference of sums, and as long a visit costs as a short one.
-- makes: ran_beside
-- reads: waiting_visit, named_run, known_enclosed
-- only with: named_run
CREATE OR REPLACE TEMP TABLE ran_beside AS
WITH
runner AS (
    SELECT DISTINCT ON (runner_no) runner_no, host, container_id, entity_type, name AS entity_id FROM named_run
),
neighbour AS (
    SELECT visit.visit_no, visit.from_ns, visit.to_ns, visit.from_ns - seconds_long(30) AS since_ns, runner_no
    FROM waiting_visit AS visit
    JOIN runner ON runner.host = visit.host
    ANTI JOIN known_enclosed AS pair
        ON pair.container_id = visit.container_id AND pair.other_id = runner.container_id
    WHERE runner.container_id IS DISTINCT FROM visit.container_id
),
runs AS (SELECT runner_no, from_ns, to_ns, rise, sum_ns FROM named_run),
-- The reading in which the half minute began, the one in which the visit began, and the one in which it ended.
met AS (
    SELECT
        neighbour.*,
        earliest.from_ns AS read_from_ns,
        earliest.sum_ns
            + earliest.rise
            * (greatest(0, since_ns - earliest.from_ns) / (earliest.to_ns - earliest.from_ns)) AS sum_since_ns,
        began.sum_ns AS sum_until_ns,
        CASE WHEN ended.from_ns = began.from_ns
             THEN began.rise
                 * ((least(began.to_ns, neighbour.to_ns) - greatest(began.from_ns, neighbour.from_ns))
                    / (began.to_ns - began.from_ns))
             WHEN ended.from_ns > began.from_ns
             THEN began.rise
                 * ((began.to_ns - greatest(began.from_ns, neighbour.from_ns)) / (began.to_ns - began.from_ns))
                 + ended.sum_ns - began.sum_ns - began.rise
                 + ended.rise * ((least(ended.to_ns, neighbour.to_ns) - ended.from_ns) / (ended.to_ns - ended.from_ns))
             END AS ran_ns
    FROM neighbour
    ASOF JOIN runs AS earliest ON earliest.runner_no = neighbour.runner_no AND neighbour.since_ns < earliest.to_ns
    ASOF LEFT JOIN runs AS began ON began.runner_no = neighbour.runner_no AND neighbour.from_ns < began.to_ns
    ASOF LEFT JOIN runs AS ended ON ended.runner_no = neighbour.runner_no AND neighbour.to_ns > ended.from_ns
    WHERE earliest.from_ns < neighbour.to_ns
),
known_from AS (
    SELECT visit_no, min(greatest(read_from_ns, since_ns)) AS known_since_ns FROM met GROUP BY visit_no
)
SELECT
    met.visit_no, entity_type, entity_id, sum(ran_ns) AS ran_ns,
    sum(greatest(0, sum_until_ns - sum_since_ns))
        / any_value(nullif(greatest(0, from_ns - known_since_ns), 0)) * any_value(to_ns - from_ns) AS before_ns
FROM met
JOIN known_from ON known_from.visit_no = met.visit_no
JOIN runner ON runner.runner_no = met.runner_no
GROUP BY met.visit_no, entity_type, entity_id
HAVING sum(ran_ns) > 0;

-- Who else ran meanwhile, and how much of that was more than in the time before: a neighbour that always runs does not
-- explain why this request waited. Containers that may use none of the same CPUs cannot have been in the way. A container is no
-- neighbour of what runs inside of it, and of an outer one only what the inner ones did not run is its own.
-- makes: ran
-- reads: waiting_visit, ran_beside, known_nested
-- only with: ran_beside
CREATE OR REPLACE TEMP TABLE ran AS
WITH
inner_sums AS (
    SELECT visit_no, outer_id, sum(ran_ns) AS inner_ns, sum(before_ns) AS inner_before_ns
    FROM ran_beside JOIN known_nested ON known_nested.container_id = ran_beside.entity_id
    GROUP BY ALL
),
own_sums AS (
    SELECT
        ran_beside.*
            REPLACE (ran_ns - coalesce(inner_ns, 0) AS ran_ns, before_ns - coalesce(inner_before_ns, 0) AS before_ns)
    FROM ran_beside
    LEFT JOIN inner_sums
        ON inner_sums.visit_no = ran_beside.visit_no AND outer_id = ran_beside.entity_id
),
pinned AS (
    SELECT container_id, arg_max(attributes['layerline.container.cpuset'], seen_ns) AS cpuset
    FROM resource
    WHERE service IS NULL AND container_id IN (SELECT entity_id FROM ran_beside WHERE entity_type = 'container')
    GROUP BY ALL
)
SELECT own_sums.visit_no, entity_type, entity_id, ran_ns::BIGINT AS ran_ns,
       greatest(0, ran_ns - greatest(0, coalesce(before_ns, 0)))::BIGINT AS more_ns
FROM own_sums
JOIN waiting_visit AS visit ON visit.visit_no = own_sums.visit_no
LEFT JOIN pinned ON entity_type = 'container' AND pinned.container_id = entity_id
WHERE ran_ns >= 1
  AND coalesce(list_has_any(visit.cpuset, cpus_of(pinned.cpuset)), TRUE);

-- The limits and levels that held during each visit: one row per visit and signal. Of several limits the tightest binds. If the
-- first reading of a container came only after the visit, assume that the level already held.
-- makes: level
-- reads: measured_visit, limited_visit, reading, near_series
-- only with: near_series, limited_visit
-- only where: near_series: kind = 'gauge'
CREATE OR REPLACE TEMP TABLE level AS
WITH
first_read AS (
    SELECT entity_id AS container_id, min(to_ns) AS first_ns
    FROM reading
    WHERE signal = 'container.cpu.time'
    GROUP BY ALL
),
held AS (
    FROM levels_of((SELECT list(series) FROM near_series WHERE kind = 'gauge'), $since_ns, $until_ns)
),
each_one AS (
    SELECT
        visit.request_no, visit.visit_no, held.signal, held.attributes,
        coalesce(arg_max(value, held.from_ns) FILTER (held.from_ns - seconds_long(2) <= visit.to_ns),
                 arg_min(value, held.from_ns)) AS value
    FROM measured_visit AS visit
    SEMI JOIN limited_visit USING (request_no, visit_no)
    LEFT JOIN first_read USING (container_id)
    JOIN held ON held.entity_id = visit.container_id
    WHERE held.from_ns + seconds_long(20) >= visit.from_ns
      AND held.from_ns - CASE WHEN first_ns > visit.to_ns THEN seconds_long(20) ELSE seconds_long(2) END <= visit.to_ns
    GROUP BY ALL
)
SELECT
    request_no, visit_no, each_one.signal,
    CASE WHEN any_value(is_limit) THEN min(value) FILTER (value > 0) ELSE sum(value) END AS value,
    -- Of a limit above the container: whose it is.
    arg_min(attributes['layerline.cgroup'], value) FILTER (value > 0) AS of_cgroup
FROM each_one
LEFT JOIN signal ON signal.signal = each_one.signal
GROUP BY request_no, visit_no, each_one.signal
HAVING value IS NOT NULL;

-- The CPU limit that held during each visit, its container's own or one above it, whichever is tighter. Others tell it as a
-- quota and a period.
-- makes: cpu_limit
-- reads: level
-- only with: level
CREATE OR REPLACE TEMP TABLE cpu_limit AS
WITH each_limit AS (
    SELECT request_no, visit_no, value, of_cgroup FROM level
    WHERE signal IN ('container.cpu.limit', 'container.ancestor.cpu.limit')
    UNION ALL
    SELECT
        request_no, visit_no,
        any_value(value) FILTER (signal = 'container.cpu.quota')
            / coalesce(any_value(value) FILTER (signal = 'container.cpu.quota.period'), ms_of(100)), NULL
    FROM level
    WHERE signal IN ('container.cpu.quota', 'container.cpu.quota.period')
    GROUP BY request_no, visit_no
)
SELECT request_no, visit_no, min(value) AS cpus, arg_min(of_cgroup, value) AS of_cgroup
FROM each_limit
WHERE value IS NOT NULL
GROUP BY request_no, visit_no;
