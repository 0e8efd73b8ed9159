-- title: held back by its CPU limit
-- layer: container
-- order: 300
-- reads: piece left_over visit cpu_count level guessed held_up
-- where: container_id IS NOT NULL AND wait_ns > 0 OR is_answered
-- applies: container
-- needs: layerline.account | container.cpu.time, layerline.container.throttled_ns | container.cpu.throttled
-- means: The container had used up its CPU quota for the period; the kernel let its threads stand ready without running until the next one. A callee that is held back before its handler begins, or before its answer leaves, holds up its caller.
-- mistaken for: A busy neighbour (host.cpu_contended): there the container is below its limit and the throttled counter does not grow. Slow code (app.cpu_busy): there the thread computes.
-- try: Raise the CPU limit (`docker update --cpus N NAME`), or use fewer threads: they spend the quota together.
-- enable: start the service with `layerline run -- CMD` in a container whose cgroup files it can read
-- enable elsewhere: let the Collector's docker_stats receiver report `container.cpu.throttling_data.throttled_time` (it is off by default)
-- source: cpu.stat throttled_time (v1, ns) or throttled_usec (v2); /proc/PID/task/TID/schedstat field 2
--
-- The counter sums over CPUs and over everybody in the container, so it is divided by how many wanted to run. What
-- other threads can have added to it is at most the time they were runnable: that much is uncertain, and no more.
-- On one CPU it sums over nobody else: what it grew while this thread did not run, this thread stood still for.
WITH
bounds AS (
    SELECT
        request_no, visit_no, wait_ns, throttled_ns::DOUBLE AS throttled_ns,
        coalesce(visit.cpus, cpu_count.cpus, many_cpus()) AS cpus,
        greatest(coalesce(runnable_ns / nullif(metered_ns, 0), 1), 1) AS wanted,
        not_below_zero(runnable_ns - cpu_ns - wait_ns)    AS others_ns,
        window_ns - wait_ns                               AS not_waiting_ns
    FROM visit LEFT JOIN cpu_count USING (host)
    WHERE throttled_ns > 0 AND wait_ns > 0 AND window_ns > 0
),
shares AS (
    SELECT
        *,
        least(wait_ns, throttled_ns)                      AS high_ns,
        least(wait_ns, throttled_ns / least(wanted, cpus)) AS lost_ns,
        greatest(
            least(wait_ns, throttled_ns - coalesce(others_ns, throttled_ns)),
            CASE WHEN cpus = 1 THEN least(wait_ns, throttled_ns - not_waiting_ns) ELSE 0 END,
            least(wait_ns, throttled_ns / least(wanted, cpus), 0.6 * throttled_ns / least(cpus, greatest(2, ceil(wanted))))
        ) AS low_ns
    FROM bounds
)
SELECT
    piece_no, 'wait' AS pool, 'container' AS entity_type, piece.container_id AS entity_id,
    floor(greatest(lost_ns, low_ns) * (piece.wait_ns / shares.wait_ns))::BIGINT AS lost_ns,
    floor(low_ns                    * (piece.wait_ns / shares.wait_ns))::BIGINT AS low_ns,
    floor(high_ns                   * (piece.wait_ns / shares.wait_ns))::BIGINT AS high_ns,
    format('its throttled time grew by {:.0f} ms in this request, while its thread stood ready {:.0f} ms without a CPU{}',
           throttled_ns / 1e6, shares.wait_ns / 1e6,
           coalesce(format('; its limit is {:.2g} CPU', level.value), '')) AS because
FROM piece
JOIN shares USING (request_no, visit_no)
LEFT JOIN level ON level.request_no = piece.request_no AND level.visit_no = piece.visit_no
    AND level.signal = 'container.cpu.limit'
WHERE piece.wait_ns > 0 AND piece.container_id IS NOT NULL AND NOT piece.inferred
UNION ALL BY NAME
-- Without our account, as far as the readings go: how often a long interval's rise fell into this request nobody knows.
SELECT
    piece_no, 'wait' AS pool, 'container' AS entity_type, piece.container_id AS entity_id,
    floor(least(throttled, piece.wait_ns))::BIGINT AS lost_ns, throttled_low AS low_ns, throttled_high AS high_ns,
    format('its throttled time grew, of which {:.0f} ms fall to this request by the time it was at work{}', throttled / 1e6,
           coalesce(format('; its limit is {:.2g} CPU', level.value), '')) AS because
FROM piece
JOIN guessed USING (piece_no)
LEFT JOIN level ON level.request_no = piece.request_no AND level.visit_no = piece.visit_no
    AND level.signal = 'container.cpu.limit'
WHERE piece.wait_ns > 0 AND throttled > 0 AND piece.container_id IS NOT NULL
UNION ALL BY NAME
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, held_up.container_id AS entity_id,
    floor(least(throttled, off_left))::BIGINT      AS lost_ns,
    floor(least(throttled_low, off_left))::BIGINT  AS low_ns,
    floor(least(throttled_high, off_left))::BIGINT AS high_ns,
    true AS inferred,
    format('for {:.0f} ms of “{}” the other side had not begun, or had ended; its throttled time grew by {:.0f} ms then',
           off_left / 1e6, name, throttled / 1e6) AS because
FROM piece JOIN left_over USING (piece_no) JOIN held_up USING (piece_no)
WHERE off_left > 0 AND throttled > 0
