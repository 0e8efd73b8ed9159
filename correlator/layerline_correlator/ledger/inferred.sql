-- From readings to pieces that nobody measured: what a process without our account must have done, judging by its
-- container's counters.
--
-- A counter's rise belongs to the spans that were at work in its container during its interval, in proportion to the
-- overlap. A span that waited for an answer was not at work.

-- The pieces of which nothing was measured.
-- makes: dark_piece
-- reads: measured_piece
-- only where: measured_piece: dark_ns > 0 AND covered_ns = 0
CREATE OR REPLACE TEMP TABLE dark_piece AS
FROM measured_piece WHERE dark_ns > 0 AND covered_ns = 0;

-- When spans were at work in the containers of those.
-- makes: active
-- reads: dark_piece, measured_piece, segment, batch
-- only with: dark_piece
CREATE OR REPLACE TEMP TABLE active AS
WITH dark_containers AS (SELECT DISTINCT container_id FROM dark_piece WHERE container_id IS NOT NULL)
SELECT piece.container_id, segment.from_ns, segment.to_ns
FROM measured_piece AS piece
SEMI JOIN dark_containers USING (container_id)
JOIN segment ON segment.request_no = piece.request_no AND segment.span_no = piece.span_no
WHERE NOT is_client(piece.kind)
-- a request inside another is on both paths
QUALIFY row_number() OVER (PARTITION BY piece.span_no, segment.from_ns, segment.to_ns) = 1
UNION ALL
SELECT request.container_id, request.start_ns, request.end_ns
FROM request
SEMI JOIN dark_containers ON dark_containers.container_id = request.container_id
WHERE request.start_ns BETWEEN $since_ns AND $until_ns
  AND request.trace_id NOT IN (SELECT trace_id FROM batch);

-- What the readings say of each of those pieces.
-- makes: counted
-- reads: stretch, dark_piece, measured_visit, active, reading, cpu_limit, cpu_count
-- only with: dark_piece, reading
CREATE OR REPLACE TEMP TABLE counted AS
WITH
counters AS MATERIALIZED (
    SELECT
        row_number() OVER () AS counter_no, entity_id AS container_id, signal, from_ns, to_ns, rise
    FROM reading
    WHERE signal IN ('container.cpu.time', 'container.cpu.throttled')
       OR (signal IN ('container.cpu.pressure', 'container.io.pressure') AND attributes['pressure.kind'] = 'some')
),
counted_second AS (SELECT *, unnest(seconds_touched(from_ns, to_ns)) AS second FROM counters),
active_second AS (
    SELECT active.*, unnest(seconds_touched(greatest(from_ns, first_ns), least(to_ns, last_ns))) AS second
    FROM active, (SELECT min(from_ns) AS first_ns, max(to_ns) AS last_ns FROM counters) AS extent
    WHERE from_ns < last_ns AND to_ns > first_ns
),
-- in each interval, for how long spans were at work, added up
at_work AS (
    SELECT counter_no,
           sum(least(active.to_ns, reading.to_ns) - greatest(active.from_ns, reading.from_ns))::BIGINT AS together_ns
    FROM counted_second AS reading
    JOIN active_second AS active
        ON active.container_id = reading.container_id AND active.second = reading.second
            AND reading.second = first_second_of_both(reading.from_ns, active.from_ns)
            AND active.from_ns < reading.to_ns
            AND active.to_ns > reading.from_ns
    GROUP BY counter_no
),
-- what each counter grows by while nothing is at work: its background
idle AS (
    SELECT container_id, signal, sum(rise) / sum(counters.to_ns - counters.from_ns) AS rate
    FROM counters ANTI JOIN at_work ON at_work.counter_no = counters.counter_no
    GROUP BY container_id, signal HAVING sum(counters.to_ns - counters.from_ns) >= 1_000_000_000
),
-- How many CPUs the quota held back at once: if m CPUs want to run under a limit of L, each throttled period withholds
-- (m - L) periods of CPU time, so m = withheld / (periods x length of a period) + L.
-- The periods may be read less often than what was withheld. Only those that meet what was withheld near the stretches count:
-- of hours of readings every pair would be looked at.
near_withheld AS (
    SELECT min(from_ns) AS first_ns, max(to_ns) AS last_ns FROM counters
    WHERE signal = 'container.cpu.throttled'
      AND to_ns > (SELECT min(from_ns) FROM stretch) AND from_ns < (SELECT max(to_ns) FROM stretch)
),
throttled_periods AS (
    SELECT entity_id AS container_id, from_ns, to_ns, sum(rise) AS periods FROM reading, near_withheld
    WHERE signal = 'container.cpu.throttled_periods' AND rise > 0 AND to_ns > first_ns AND from_ns < last_ns
    GROUP BY ALL
),
withheld AS (
    SELECT
        throttled_periods.container_id, throttled_periods.from_ns, throttled_periods.to_ns,
        sum(rise * (overlap_ns(counters.from_ns, counters.to_ns, throttled_periods.from_ns, throttled_periods.to_ns)
                    / (counters.to_ns - counters.from_ns)))
            / (any_value(periods) * ms_of(100)) AS cpus
    FROM throttled_periods
    JOIN counters
        ON counters.container_id = throttled_periods.container_id AND signal = 'container.cpu.throttled'
            AND counters.from_ns < throttled_periods.to_ns AND counters.to_ns > throttled_periods.from_ns
    GROUP BY ALL
),
held AS (
    SELECT counter_no, max(withheld.cpus) AS cpus
    FROM counters JOIN withheld
        ON withheld.container_id = counters.container_id
            AND withheld.from_ns < counters.to_ns AND withheld.to_ns > counters.from_ns
    WHERE counters.signal = 'container.cpu.throttled'
    GROUP BY counter_no
),
limits AS (
    SELECT request_no, visit_no, cpus FROM cpu_limit WHERE of_cgroup IS NULL
),
-- All that is known of an interval, and all that is known of a stretch, before the two are brought together.
known_interval AS (
    SELECT
        reading.container_id, reading.signal, reading.second, reading.from_ns, reading.to_ns, rise,
        coalesce(together_ns, 0) AS together_ns, rate, held.cpus AS held_cpus
    FROM counted_second AS reading
    LEFT JOIN idle ON idle.container_id = reading.container_id AND idle.signal = reading.signal
    LEFT JOIN at_work ON at_work.counter_no = reading.counter_no
    LEFT JOIN held ON held.counter_no = reading.counter_no
),
dark_stretch AS (
    SELECT
        stretch.piece_no, stretch.container_id, stretch.from_ns, stretch.to_ns,
        unnest(seconds_read(stretch.from_ns, stretch.to_ns, $since_ns, $until_ns)) AS second,
        coalesce(len(visit.cpuset), cpu_count.cpus, many_cpus()) AS cpus, limits.cpus AS limit_cpus
    FROM stretch
    SEMI JOIN dark_piece ON dark_piece.piece_no = stretch.piece_no
    JOIN measured_visit AS visit ON visit.request_no = stretch.request_no AND visit.visit_no = stretch.visit_no
    LEFT JOIN limits ON limits.request_no = stretch.request_no AND limits.visit_no = stretch.visit_no
    LEFT JOIN cpu_count ON cpu_count.host = stretch.host
    WHERE NOT stretch.peer
),
meets AS (
    SELECT
        piece_no, reading.signal, rise, reading.to_ns - reading.from_ns AS interval_ns,
        least(reading.to_ns, stretch.to_ns) - greatest(reading.from_ns, stretch.from_ns) AS o,
        together_ns, rate,
        -- An interval that is much longer says nothing of who else did what in it: an app that starts, a collection.
        reading.to_ns - reading.from_ns <= 5 * (stretch.to_ns - stretch.from_ns) AS is_near,
        cpus, held_cpus + limit_cpus AS held_cpus
    FROM dark_stretch AS stretch
    JOIN known_interval AS reading
        ON reading.container_id = stretch.container_id AND reading.second = stretch.second
            AND stretch.second = first_second_of_both(reading.from_ns, stretch.from_ns)
            AND reading.from_ns < stretch.to_ns
            AND reading.to_ns > stretch.from_ns
),
works AS (
    SELECT *, greatest(together_ns, o) AS work_ns, least(greatest(together_ns, o), interval_ns) AS busy_ns FROM meets
),
shares AS (
    SELECT
        *,
        least(cpus, greatest(1, work_ns / busy_ns, coalesce(held_cpus, 1)))     AS likely_cpus,
        -- A period is counted when it begins to be withheld, the time when that ends: a little more than one is one.
        least(cpus, greatest(1, CASE WHEN held_cpus <= 1.3 THEN held_cpus
                                     ELSE coalesce(ceil(held_cpus - 0.1), cpus) END)) AS most_cpus,
        -- What others at work can have added, and the background: three times what that is while nobody works, or 6 % of
        -- a core where that was never seen. Null where nobody can say.
        CASE WHEN is_near THEN (work_ns - o) + coalesce(3 * rate, 0.06) * (interval_ns - busy_ns) END AS others_ns
    FROM works
)
SELECT
    piece_no, signal, sum(o)::BIGINT AS covered_ns,
    CASE signal
        WHEN 'container.cpu.time' THEN sum(least(o, rise * (o / work_ns)))
        -- The kernel counts a throttled stretch when it ends, perhaps in the next interval: only their sum is bounded.
        WHEN 'container.cpu.throttled' THEN least(sum(o), sum(rise * (o / busy_ns) / likely_cpus))
        ELSE sum(least(o, rise * (o / busy_ns)))
    END AS estimate,
    CASE signal
        WHEN
            'container.cpu.time'
            THEN sum(greatest(0, rise - cpus * interval_ns + o, least_or_null(o, rise - others_ns)))
        -- What ends in the first interval may have begun before: a period, 100 ms.
        WHEN 'container.cpu.throttled'
            THEN greatest(
                0,
                sum(
                    greatest(
                        0, least(o, greatest(rise / most_cpus - (interval_ns - o), (rise - others_ns) / most_cpus))
                    )
                )
                             - 100_000_000)
        WHEN
            'container.io.pressure'
            THEN sum(CASE WHEN work_ns = o THEN greatest(0, rise - (interval_ns - o)) ELSE 0 END)
        ELSE 0
    END AS low,
    CASE signal WHEN 'container.cpu.throttled' THEN least(sum(o), sum(rise)) ELSE sum(least(rise, o)) END AS high,
    max(work_ns / busy_ns) AS at_once
FROM shares
GROUP BY piece_no, signal;

-- So much of each of those pieces was computing, so much standing still. Where its container was at its CPU limit, those at work
-- there shared what that leaves; the rest of the time is left to be explained.
-- makes: guessed
-- reads: dark_piece, counted, saturated
-- only with: dark_piece
CREATE OR REPLACE TEMP TABLE guessed AS
WITH
wide AS (
    SELECT
        piece_no, request_no, visit_no, kind, dark_ns,
        max(estimate)           FILTER (signal = 'container.cpu.time')      AS cpu,
        max(low)                FILTER (signal = 'container.cpu.time')      AS cpu_low,
        max(high)               FILTER (signal = 'container.cpu.time')      AS cpu_high,
        max(counted.covered_ns) FILTER (signal = 'container.cpu.time')      AS seen_ns,
        max(estimate)           FILTER (signal = 'container.cpu.throttled') AS throttled,
        max(low)                FILTER (signal = 'container.cpu.throttled') AS throttled_low,
        max(high)               FILTER (signal = 'container.cpu.throttled') AS throttled_high,
        max(estimate)           FILTER (signal = 'container.cpu.pressure')  AS pressure,
        max(high)               FILTER (signal = 'container.cpu.pressure')  AS pressure_high,
        max(at_once)            FILTER (signal = 'container.cpu.time')      AS at_once
    FROM dark_piece LEFT JOIN counted USING (piece_no)
    GROUP BY ALL
),
-- At the limit, a share of the time for each of those at work; that of no more than one CPU.
within_limit AS (
    SELECT wide.* EXCLUDE (at_once) REPLACE (
        least_or_null(cpu, dark_ns - full_ns * (1 - least(1, coalesce(cpus / greatest(1, at_once), 1)))) AS cpu)
    FROM wide JOIN (FROM saturated WHERE NOT peer) AS own_limit USING (piece_no)
    UNION ALL BY NAME
    SELECT * EXCLUDE (at_once) FROM wide ANTI JOIN (FROM saturated WHERE NOT peer) AS own_limit USING (piece_no)
),
-- Where both do not fit, each has its share: a long interval says of neither how much of it was here.
fitting AS (
    SELECT *, greatest(1, (least(cpu, dark_ns) + least(coalesce(throttled, 0), dark_ns)) / dark_ns) AS too_much
    FROM within_limit
),
-- Inside a call, and only there, the time is the other side's even if nobody reads this container's counters.
taken AS (
    SELECT
        * REPLACE (throttled / too_much AS throttled),
        coalesce(seen_ns >= 0.9 * dark_ns, FALSE) AS is_seen,
        CASE WHEN is_client(kind) THEN 0 ELSE least(cpu, dark_ns) / too_much END AS cpu_ns,
        CASE WHEN is_client(kind) THEN 0
             ELSE greatest(coalesce(least_or_null(throttled, dark_ns) / too_much, 0), coalesce(pressure, 0)) END
             AS stood_ns,
        greatest(coalesce(throttled_high, 0), coalesce(pressure_high, 0)) AS stood_high
    FROM fitting
)
SELECT
    piece_no, request_no, visit_no, is_seen, throttled,
    floor(coalesce(cpu_ns, 0))::BIGINT                                             AS cpu_ns,
    floor(least(stood_ns, dark_ns - coalesce(cpu_ns, 0)))::BIGINT                  AS wait_ns,
    least(coalesce(cpu_low, 0), coalesce(cpu_ns, 0))::BIGINT                       AS cpu_low,
    least(greatest(cpu_high, cpu_ns), dark_ns)::BIGINT                             AS cpu_high,
    least(throttled_low, stood_ns, dark_ns)::BIGINT                                AS throttled_low,
    least(throttled_high, dark_ns)::BIGINT                                         AS throttled_high,
    least(coalesce(throttled_low, 0), least(stood_ns, dark_ns - coalesce(cpu_ns, 0)))::BIGINT AS wait_low,
    least(greatest(stood_high, stood_ns), dark_ns)::BIGINT                         AS wait_high
FROM taken
WHERE is_seen OR is_client(kind);

-- What each span on the path of a request did with its own time: measured, or (`inferred`) judging by readings, with bounds.
-- makes: piece
-- reads: measured_piece, guessed
CREATE OR REPLACE TEMP TABLE piece AS
SELECT
    measured_piece.* REPLACE (
        coalesce(guessed.cpu_ns, measured_piece.cpu_ns)   AS cpu_ns,
        coalesce(guessed.wait_ns, measured_piece.wait_ns) AS wait_ns,
        coalesce(dark_ns - guessed.cpu_ns - guessed.wait_ns, off_ns) AS off_ns,
        CASE WHEN guessed.piece_no IS NULL THEN dark_ns ELSE 0 END AS dark_ns
    ),
    -- Whose time it is: the container's, a process's only where there is none.
    CASE WHEN container_id IS NULL THEN 'process' ELSE 'container' END AS entity_type,
    coalesce(container_id, instance) AS entity_id,
    guessed.piece_no IS NOT NULL AS inferred,
    guessed.cpu_low,
    CASE WHEN guessed.piece_no IS NOT NULL THEN coalesce(guessed.cpu_high, dark_ns) END AS cpu_high,
    guessed.wait_low,
    CASE WHEN guessed.piece_no IS NOT NULL THEN CASE WHEN is_seen THEN guessed.wait_high ELSE dark_ns END END
        AS wait_high
FROM measured_piece LEFT JOIN guessed ON guessed.piece_no = measured_piece.piece_no;

-- What each process did of a request, likewise.
-- makes: visit
-- reads: measured_visit, guessed, seen
CREATE OR REPLACE TEMP TABLE visit AS
WITH
inferred_sums AS (
    SELECT request_no, visit_no, sum(cpu_ns)::BIGINT AS cpu_ns, sum(wait_ns)::BIGINT AS wait_ns,
           sum(throttled)::BIGINT AS throttled_ns
    FROM guessed GROUP BY ALL
),
used AS (
    SELECT request_no, visit_no, sum(estimate)::BIGINT AS used_ns FROM seen
    WHERE piece_no IS NULL AND signal = 'container.cpu.time' GROUP BY ALL
),
-- What a quota above it withheld, where neither the process nor its container's own counter could see it.
above AS (
    SELECT request_no, visit_no, sum(estimate) AS estimate, sum(low) AS low, sum(high) AS high,
           arg_max(cgroup, estimate) AS of_cgroup
    FROM seen
    WHERE piece_no IS NULL AND signal = 'container.cpu.throttled' AND cgroup IS NOT NULL
    GROUP BY ALL HAVING sum(estimate) > 0
)
SELECT
    measured_visit.* REPLACE (
        measured_visit.cpu_ns + coalesce(inferred_sums.cpu_ns, 0)   AS cpu_ns,
        measured_visit.wait_ns + coalesce(inferred_sums.wait_ns, 0) AS wait_ns,
        coalesce(above.estimate::BIGINT, measured_visit.throttled_ns, inferred_sums.throttled_ns) AS throttled_ns,
        coalesce(throttled_by, of_cgroup) AS throttled_by,
        CASE WHEN inferred_sums.request_no IS NULL THEN usage_ns ELSE coalesce(usage_ns, used_ns) END AS usage_ns
    ),
    -- Of throttled time that was read beside the request, as a share of the estimate: at least, and at most.
    above.low / above.estimate  AS throttled_low_ratio,
    above.high / above.estimate AS throttled_high_ratio,
    inferred_sums.request_no IS NOT NULL AS inferred
FROM measured_visit
LEFT JOIN inferred_sums USING (request_no, visit_no)
LEFT JOIN above ON above.request_no = measured_visit.request_no AND above.visit_no = measured_visit.visit_no
    AND measured_visit.throttled_ns = 0
LEFT JOIN used USING (request_no, visit_no);

-- The visits of which the CPU limit withheld something.
-- makes: throttled_visit
-- reads: visit
CREATE OR REPLACE TEMP TABLE throttled_visit AS
SELECT request_no, visit_no FROM visit WHERE throttled_ns > 0;

-- The pieces whose thread was measured to wait, in those visits.
-- makes: measured_wait
-- reads: piece, throttled_visit
-- only with: throttled_visit
CREATE OR REPLACE TEMP TABLE measured_wait AS
SELECT piece_no FROM piece SEMI JOIN throttled_visit USING (request_no, visit_no) WHERE wait_ns > 0 AND NOT inferred;
