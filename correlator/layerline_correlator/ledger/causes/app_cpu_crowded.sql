-- title: too many of its own threads wanted the CPU
-- layer: app
-- order: 400
-- reads: cpu_rival piece left_over saturated
-- with any of: cpu_rival saturated
-- applies: wait for a CPU
-- needs: layerline.account | container.cpu.pressure, layerline.container.usage_ns | container.cpu.time
-- means: The thread stood ready without a CPU while other threads of the same container (or process) ran.
-- mistaken for: A neighbour (host.cpu_contended): there somebody else's work ran meanwhile. A CPU limit (container.cpu_throttled): there the throttled counter grew.
-- fits: neighbour started: it used {share} of what the slow requests waited for
-- fits: new code: new code may use more of the machine
-- takes over: container.cpu_throttled, host.cpu_contended
-- try: Fewer busy threads per CPU, or more CPUs for this container; spread it over more instances.
-- enable: start the service with `layerline run -- CMD`, and run `layerline agent` on the machine
-- source: schedstat field 2, and the container's own CPU time over exactly the request
--
-- Where nobody measured who waited, a container without a limit that used nearly all CPUs of its machine, and did not before
-- (saturated.sql), may have had too few of them.
SELECT * EXCLUDE (party) FROM cpu_rival WHERE party = 'own'
UNION ALL BY NAME
-- only with: saturated
SELECT
    piece_no, 'off' AS pool, 'container' AS entity_type, saturated.container_id AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('it used {:.0f} % of the {:.0f} CPUs of its machine, by readings every {:.0f} s{}; {}',
           100 * least(ratio, 9.99), saturated.cpus, greatest(1, interval_ns / 1e9),
           coalesce(format(', usually {:.0f} %', 100 * usual_ratio), ''),
           format(CASE WHEN NOT peer THEN '{} of “{}” lie in that time and were not computing'
                       WHEN is_answered THEN 'for {} of “{}” it had not begun, or had ended'
                       ELSE 'for {} of “{}” its answer was waited for' END, '{lost}', name)) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN saturated USING (piece_no)
WHERE is_machine AND off_left > 0
  AND CASE WHEN peer THEN is_answered OR is_dependency ELSE piece.inferred AND NOT is_client(kind) END
