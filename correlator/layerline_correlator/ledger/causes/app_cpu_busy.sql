-- title: its own code computed
-- layer: app
-- order: 800
-- reads: piece sampled
-- where: cpu_ns > 0
-- needs: layerline.account | container.cpu.time
-- means: The thread was on a CPU, running the code of this span: not waiting for anybody.
-- mistaken for: A CPU limit. A throttled thread does not compute, it stands still; that time is container.cpu_throttled. A slower CPU (frequency, a busy sibling hyper-thread) also looks like more work.
-- at fault: one operation's code
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: Profile this operation; look for work that grew with the data, or that was deployed lately.
-- enable: start the service with `layerline run -- CMD`
-- source: CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)
SELECT
    piece_no, 'cpu' AS pool,
    entity_type, entity_id,
    NULL AS lost_ns, NULL AS low_ns, NULL AS high_ns,
    CASE WHEN
        piece.inferred
        THEN format('its container used {} of CPU time in span “{}”', '{lost}', name)
         ELSE format('the thread was on a CPU for {} in span “{}”', '{lost}', name) END AS because,
    cpu_place AS place
FROM piece LEFT JOIN sampled USING (piece_no)
WHERE cpu_ns > 0
