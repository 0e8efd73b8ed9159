-- Calls whose other side was late to begin, or late to let its answer go: how long its container stood still then.

-- Per piece: whose container, the visit that answered, and the nanoseconds outside its handler, as estimate, low and high:
-- `throttled` by its limit, `pressed` for want of a CPU, for that or any other reason.
-- A reading that touches the gap may also have seen handlers. What those lost is known and taken off: the throttled time
-- of the one that answered, the waits of all. What is left belongs to the gap, as far as that lasted.
-- makes: held_up
-- reads: piece, visit, node, stretch, reading_second, cpu_count
-- only with: late_call, reading_second
CREATE OR REPLACE TEMP TABLE held_up AS
WITH
peer_second AS (
    SELECT *, unnest(seconds_read(from_ns, to_ns, $since_ns, $until_ns)) AS second FROM stretch WHERE peer
),
gaps AS (
    SELECT
        stretch.*, answer.visit_no AS answer_no, answer.from_ns AS answer_from, answer.to_ns AS answer_to,
        coalesce(answer.throttled_ns, 0) AS throttled_ns, answer.window_ns,
        coalesce(answer.cpus, cpu_count.cpus, many_cpus())                                      AS cpus,
        greatest(coalesce(answer.runnable_ns / nullif(answer.metered_ns, 0), 1), 1) AS wanted
    FROM peer_second AS stretch
    JOIN piece USING (piece_no)
    JOIN node ON node.parent_no = piece.span_no AND node.crosses
    JOIN visit AS answer ON answer.request_no = stretch.request_no AND answer.visit_no = node.span_no
        AND answer.container_id = stretch.container_id
    LEFT JOIN cpu_count ON cpu_count.host = stretch.host
    WHERE piece.is_answered AND answer.window_ns > 0
    QUALIFY row_number() OVER (PARTITION BY stretch_no, second ORDER BY answer.from_ns DESC, answer.visit_no) = 1
),
-- What lies before the handler and what lies after it may touch the same reading: it is counted once.
meets AS (
    SELECT
        piece_no,
        gaps.container_id,
        answer_no,
        signal,
        reading.from_ns,
        reading.to_ns,
        rise,
        throttled_ns,
        window_ns,
        cpus,
        least(wanted, cpus)                                                     AS at_once,
        sum(overlap_ns(reading.from_ns, reading.to_ns, gaps.from_ns, gaps.to_ns))   AS gap_ns,
        overlap_ns(reading.from_ns, reading.to_ns, answer_from, answer_to)          AS answer_ns
    FROM gaps JOIN reading_second AS reading
        ON reading.second = gaps.second AND reading.entity_id = gaps.container_id
        AND gaps.second = first_second_of_both(reading.from_ns, gaps.from_ns)
        AND reading.from_ns < gaps.to_ns AND reading.to_ns > gaps.from_ns
    WHERE signal = 'container.cpu.throttled'
        OR (signal = 'container.cpu.pressure' AND pressure_kind = 'some')
    GROUP BY ALL
),
touched AS (
    SELECT DISTINCT container_id, from_ns, to_ns, unnest(seconds_touched(from_ns, to_ns)) AS second
    FROM meets WHERE signal = 'container.cpu.pressure'
),
working AS (
    SELECT container_id, start_ns, end_ns, thread_runqueue_ns / (end_ns - start_ns) AS rate,
           unnest(seconds_touched(greatest(start_ns, first_ns), least(end_ns, last_ns))) AS second
    FROM span JOIN resource ON resource.resource = span.resource,
         (SELECT min(from_ns) AS first_ns, max(to_ns) AS last_ns FROM touched) AS extent
    WHERE thread_runqueue_ns > 0 AND end_ns > start_ns AND container_id IN (SELECT container_id FROM touched)
      AND start_ns < last_ns AND end_ns > first_ns AND start_ns >= first_ns - 60_000_000_000
),
-- What began more than a minute before is not looked for.
waits AS (
    SELECT
        container_id,
        touched.from_ns,
        sum(rate * overlap_ns(touched.from_ns, touched.to_ns, start_ns, end_ns)) AS waited_ns
    FROM touched JOIN working USING (container_id, second)
    WHERE second = first_second_of_both(touched.from_ns, start_ns)
        AND touched.from_ns < end_ns
        AND touched.to_ns > start_ns
      AND start_ns >= touched.from_ns - 60_000_000_000
    GROUP BY ALL
),
beyond_handler AS (
    SELECT
        piece_no, container_id, answer_no, signal, gap_ns, rise,
        CASE WHEN signal = 'container.cpu.throttled' THEN (rise - throttled_ns * (answer_ns / window_ns)) / at_once
             ELSE rise - coalesce(waited_ns, 0) END AS ours,
        CASE WHEN signal = 'container.cpu.throttled'
             THEN (rise - least(throttled_ns, answer_ns * cpus) - (to_ns - from_ns - gap_ns - answer_ns) * cpus)
                 / at_once
             ELSE rise - (to_ns - from_ns - gap_ns) END AS surely_ours
    FROM meets LEFT JOIN waits USING (container_id, from_ns)
),
sums AS (
    SELECT
        piece_no, container_id, answer_no, signal,
        sum(least(gap_ns, not_below_zero(ours)))        AS estimate,
        sum(least(gap_ns, not_below_zero(surely_ours))) AS low,
        sum(least(gap_ns, rise))                        AS high
    FROM beyond_handler GROUP BY ALL
)
SELECT
    piece_no, container_id, answer_no,
    coalesce(any_value(estimate) FILTER (signal = 'container.cpu.throttled'), 0) AS throttled,
    coalesce(any_value(low)      FILTER (signal = 'container.cpu.throttled'), 0) AS throttled_low,
    coalesce(any_value(high)     FILTER (signal = 'container.cpu.throttled'), 0) AS throttled_high,
    coalesce(any_value(estimate) FILTER (signal = 'container.cpu.pressure'), 0)  AS pressed,
    coalesce(any_value(low)      FILTER (signal = 'container.cpu.pressure'), 0)  AS pressed_low,
    coalesce(any_value(high)     FILTER (signal = 'container.cpu.pressure'), 0)  AS pressed_high
FROM sums
GROUP BY ALL
HAVING greatest(throttled, pressed) >= 1_000_000;
