-- title: held back by its CPU limit
-- layer: container
-- order: 300
-- reads: piece left_over visit cpu_count cpu_limit guessed held_up behind_holder measured_wait saturated counted
-- with any of: throttled_visit guessed held_up saturated
-- where: container_id IS NOT NULL AND (wait_ns > 0 OR off_ns >= ms_of(5)) OR is_answered OR is_dependency
-- applies: container
-- needs: layerline.account | container.cpu.time, layerline.container.throttled_ns | container.cpu.throttled
-- means: The container had used up its CPU quota for the period; the kernel let its threads stand ready without running until the next one. A callee that is held back before its handler begins, or before its answer leaves, holds up its caller.
-- mistaken for: A busy neighbour (host.cpu_contended): there the container is below its limit and the throttled counter does not grow. Slow code (app.cpu_busy): there the thread computes.
-- fits: limit changed: its limit is what the slow requests waited for
-- fits: new code: it may have come with another limit, or need more
-- fits: container started: it may have come with another limit, or need more
-- takes over: host.cpu_contended, app.cpu_crowded
-- suspected in: any place
-- try: Raise the CPU limit (`docker update --cpus N NAME`), or use fewer threads: they spend the quota together.
-- try in a pod: Raise the CPU limit of the container in its pod's specification (`resources.limits.cpu`), or use fewer threads: they spend the quota together.
-- enable: start the service with `layerline run -- CMD` in a container whose cgroup files it can read
-- enable elsewhere: docker_stats: let docker_stats report its throttled time, too: `container.cpu.throttling_data.throttled_time`, off by default
-- enable elsewhere: cAdvisor: let cAdvisor's `container_cpu_cfs_throttled_seconds_total` through, too; it has none for a container without a CPU limit
-- enable elsewhere: kubeletstats: scrape the kubelet's `/metrics/cadvisor`, too: kubeletstats has no figure for throttled time
-- source: cpu.stat throttled_time (v1, ns) or throttled_usec (v2); /proc/PID/task/TID/schedstat field 2
--
-- The counter sums over CPUs, so it is divided by how many were held back at once. A throttled period withholds one period
-- from each CPU that had something to run, less the quota: m = withheld / (periods x length of a period) + quota. Threads that
-- merely stand in the queue meanwhile add nothing, so m is not the number of runnable threads, but never more than that.
-- What it grew on one CPU while this thread did not run, this thread waited for.
-- Where nobody reads the counter, a container at its limit (saturated.sql) may have been held back, or not.
-- Without our account, as far as the readings go: how often a long interval's rise fell into this request nobody knows.
SELECT
    piece_no, 'wait' AS pool, 'container' AS entity_type, piece.container_id AS entity_id,
    floor(least(throttled, piece.wait_ns))::BIGINT AS lost_ns, throttled_low AS low_ns, throttled_high AS high_ns,
    format(
        'its throttled time grew, of which {:.0f} ms fall to this request by the time it was at work{}',
        throttled / 1e6,
           limit_of(cpu_limit.cpus, cpu_limit.of_cgroup)) AS because
FROM piece
JOIN guessed USING (piece_no)
LEFT JOIN cpu_limit ON cpu_limit.request_no = piece.request_no AND cpu_limit.visit_no = piece.visit_no
WHERE piece.wait_ns > 0 AND throttled > 0 AND piece.container_id IS NOT NULL
UNION ALL BY NAME
-- only with: measured_wait
SELECT * FROM (
    WITH
    bounds AS (
        SELECT
            request_no, visit_no, wait_ns, throttled_ns::DOUBLE AS throttled_ns,
            -- After each refill it may have stood in the queue behind others: traced in the kernel, for up to 1.6 ms.
            ms_of(2) * coalesce(throttled_periods, 0)::DOUBLE AS requeued_ns,
            coalesce(visit.cpus, cpu_count.cpus, many_cpus()) AS cpus,
            greatest(coalesce(runnable_ns / nullif(metered_ns, 0), 1), 1) AS wanted,
            -- Of a quota above the container, others' CPUs are counted too.
            CASE WHEN throttled_by IS NULL
                 THEN cpus_held_back(throttled_ns, throttled_periods, period_ns, quota_cpus) END AS held_cpus,
            not_below_zero(runnable_ns - cpu_ns - wait_ns)    AS others_ns,
            window_ns - wait_ns                               AS not_waiting_ns,
            throttled_low_ratio, throttled_high_ratio,
            coalesce(quota_cpus, cpu_limit.cpus) AS cpus_allowed, coalesce(throttled_by, cpu_limit.of_cgroup) AS above
        FROM visit
        LEFT JOIN cpu_count USING (host)
        LEFT JOIN cpu_limit USING (request_no, visit_no)
        WHERE throttled_ns > 0 AND wait_ns > 0 AND window_ns > 0
    ),
    at_once AS (
        SELECT
            *, least(wanted, cpus, coalesce(held_cpus, cpus))     AS likely_cpus,
            least(cpus, ceil(coalesce(held_cpus, cpus) - 0.1))    AS most_cpus
        FROM bounds
    ),
    shares AS (
        SELECT
            *,
            least(wait_ns, throttled_ns * coalesce(throttled_high_ratio, 1)) AS high_ns,
            least(wait_ns, throttled_ns / likely_cpus)        AS lost_ns,
            not_below_zero(greatest(
                -- What other threads can have added is at most the time they were runnable.
                least(wait_ns, throttled_ns - coalesce(others_ns, throttled_ns)),
                CASE WHEN most_cpus = 1 THEN least(wait_ns, throttled_ns - not_waiting_ns) ELSE 0 END,
                -- Traced in the kernel it was never below 0.87 of this.
                least(wait_ns, throttled_ns / likely_cpus, 0.75 * throttled_ns / least(cpus, greatest(2, ceil(wanted))))
            ) - requeued_ns) * coalesce(throttled_low_ratio, 1) AS low_ns
        FROM at_once
    )
    SELECT
        piece_no, 'wait' AS pool, 'container' AS entity_type, piece.container_id AS entity_id,
        floor(greatest(lost_ns, low_ns) * (piece.wait_ns / shares.wait_ns))::BIGINT AS lost_ns,
        floor(low_ns                    * (piece.wait_ns / shares.wait_ns))::BIGINT AS low_ns,
        floor(high_ns                   * (piece.wait_ns / shares.wait_ns))::BIGINT AS high_ns,
        throttled_low_ratio IS NOT NULL                                             AS inferred,
        format('its throttled time grew by {:.0f} ms in this request, while its thread stood ready {:.0f} ms '
               || 'without a CPU{}', throttled_ns / 1e6, shares.wait_ns / 1e6, limit_of(cpus_allowed, above)) AS because
    FROM piece
    SEMI JOIN measured_wait USING (piece_no)
    JOIN shares USING (request_no, visit_no)
    WHERE piece.container_id IS NOT NULL
)
UNION ALL BY NAME
-- only with: held_up
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, held_up.container_id AS entity_id,
    floor(least(throttled, off_left))::BIGINT      AS lost_ns,
    floor(least(throttled_low, off_left))::BIGINT  AS low_ns,
    floor(least(throttled_high, off_left))::BIGINT AS high_ns,
    TRUE AS inferred,
    format(
        'for {:.0f} ms of “{}” the other side had not begun, or had ended; its throttled time grew by {:.0f} ms then',
           off_left / 1e6, name, throttled / 1e6) AS because
FROM piece JOIN left_over USING (piece_no) JOIN held_up USING (piece_no)
WHERE off_left > 0 AND throttled > 0
UNION ALL BY NAME
-- only with: behind_holder
-- It waited for a lock or for the event loop, whose holder was held back.
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, piece.container_id AS entity_id,
    floor(stood_ns * throttled_share)::BIGINT      AS lost_ns,
    floor(stood_low_ns * throttled_share)::BIGINT  AS low_ns,
    floor(stood_high_ns * throttled_share)::BIGINT AS high_ns,
    format('it waited for a {}, and the CPU limit held back what held that: {} of this wait{}',
           CASE WHEN loop_wait_ns > 0 THEN 'turn on the event loop' ELSE 'lock' END, '{lost}',
           limit_of(cpu_limit.cpus, cpu_limit.of_cgroup)) AS because
FROM piece
JOIN behind_holder USING (piece_no)
LEFT JOIN cpu_limit ON cpu_limit.request_no = piece.request_no AND cpu_limit.visit_no = piece.visit_no
WHERE throttled_share > 0 AND piece.container_id IS NOT NULL
UNION ALL BY NAME
-- only with: saturated
-- Nobody reads its throttled time, but it was at its limit: what it did not compute then, less what it waited for a device.
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, saturated.container_id AS entity_id,
    floor(least(full_ns, not_below_zero(off_left - coalesce(io.estimate, 0))))::BIGINT AS lost_ns,
    0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    used_of_limit(ratio, usual_ratio, interval_ns, saturated.cpus, saturated.of_cgroup)
        || format('; {} of “{}” lie in that time and were not computing', '{lost}', name) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN saturated USING (piece_no)
LEFT JOIN (FROM counted WHERE signal = 'container.io.pressure') AS io USING (piece_no)
WHERE NOT peer AND NOT is_machine AND piece.inferred AND NOT is_client(kind) AND off_left > 0
UNION ALL BY NAME
-- only with: saturated
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, saturated.container_id AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    used_of_limit(ratio, usual_ratio, interval_ns, saturated.cpus, saturated.of_cgroup)
        || format(CASE WHEN is_answered THEN '; for {} of “{}” it had not begun, or had ended'
                       ELSE '; for {} of “{}” its answer was waited for' END, '{lost}', name) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN saturated USING (piece_no)
WHERE peer AND NOT is_machine AND (is_answered OR is_dependency) AND off_left > 0
