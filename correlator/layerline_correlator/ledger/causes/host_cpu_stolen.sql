-- title: the hypervisor gave its CPU to somebody else
-- layer: host
-- order: 200
-- reads: piece left_over stolen vm_limit
-- with any of: stolen vm_limit
-- where: off_ns > 0 AND (voluntary_switches = 0 OR inferred OR is_answered)
-- needs: layerline.account, system.cpu.time
-- means: The virtual machine was not running: its hypervisor ran another one on that CPU, or let it wait because its CPU credits were spent.
-- mistaken for: A neighbour on the same machine (host.cpu_contended): there the thread stood ready in this machine's own queue. A CPU limit (container.cpu_throttled).
-- fits: neighbour started: it used {share} of what the slow requests waited for
-- fits: new code: new code may use more of the machine
-- takes over: container.cpu_throttled, host.cpu_contended
-- try: Another machine, or one with dedicated CPUs; burstable types steal when their credit is used up.
-- enable: start the service with `layerline run -- CMD`, and run `layerline agent` on the machine
-- source: /proc/stat steal; getrusage(RUSAGE_THREAD) ru_nvcsw = 0; the provider's CPU credits (CloudWatch CPUCreditBalance)
SELECT * FROM (
    -- Without a voluntary switch it never slept: what is missing from its time was taken from it.
    WITH awake AS (
        SELECT piece.*, off_left, off_left_high, stolen_high_ns,
               sum(off_left) OVER (PARTITION BY request_no, visit_no) AS missing_ns
        FROM piece JOIN left_over USING (piece_no) JOIN stolen USING (request_no, visit_no)
        WHERE off_left > 0 AND voluntary_switches = 0 AND NOT piece.inferred
    )
    SELECT
        piece_no, 'off' AS pool, 'host' AS entity_type, host AS entity_id,
        floor(least(off_left, stolen_high_ns * (off_left / missing_ns)))::BIGINT AS lost_ns,
        floor(least(off_left, stolen_high_ns * (off_left / missing_ns)))::BIGINT AS low_ns,
        off_left_high AS high_ns,
        format(
            'its thread never slept, and yet {:.0f} ms passed in which it neither ran nor stood ready; '
            || 'the hypervisor took {:.0f} ms from the machine{}',
               off_left / 1e6, stolen_high_ns / 1e6, coalesce('; ' || said, '')) AS because
    FROM awake
    LEFT JOIN (SELECT piece_no, said FROM vm_limit WHERE what = 'cpu' AND NOT peer) AS credits USING (piece_no)
)
UNION ALL BY NAME
-- only with: vm_limit
-- Its credits were spent: what its spans did not compute then, or what a callee there was late by, may be that.
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, vm_limit.host AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('{}; for {} of “{}” {}', said, '{lost}', name,
           CASE WHEN peer THEN 'the other side had not begun, or had ended' ELSE 'nothing was computed' END) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN (FROM vm_limit WHERE what = 'cpu') AS vm_limit USING (piece_no)
WHERE off_left >= ms_of(5) AND CASE WHEN peer THEN is_answered ELSE inferred AND NOT is_client(kind) END
