-- title: waited for a dependency
-- layer: dependency
-- order: 900
-- reads: piece
-- where: is_dependency AND off_ns > 0
-- applies: unanswered call
-- needs: layerline.account | container.cpu.time
-- means: The thread was blocked in a call to something that sends no spans itself: a database, a cache, somebody else's service.
-- mistaken for: The network in between: without spans from the other side the two cannot be told apart.
-- fits: callee changed: it is what the slow requests called
-- fits: new code: new code may call it in another way
-- try database: Look at this statement's plan (`EXPLAIN`), at locks and at what else the database did at this time; the agent on its machine shows its CPU and disk.
-- try cache: Look for large values, slow commands (`SLOWLOG GET` in Redis) and a full or swapping machine at this time.
-- try message broker: Look at the broker's disks, replicas and consumer lag at this time, and at what its acknowledgements wait for.
-- try: Look at that dependency at this time; instrument it (`layerline run`), so that its own ledger says where its time went.
-- enable: start the service with `layerline run -- CMD`
-- source: off-CPU time of a CLIENT span without a callee in the trace
SELECT
    piece_no,
    'off' AS pool,
    'service' AS entity_type,
    coalesce(nullif(address, ''), dependency_kind, name) AS entity_id,
    NULL AS lost_ns, NULL AS low_ns, NULL AS high_ns,
    format('{} for {} in “{}”{}',
           CASE WHEN inferred THEN 'it waited' ELSE 'the thread was blocked' END, '{lost}', name,
           CASE
               WHEN dependency_type IN ('database', 'cache', 'message broker') THEN '' ELSE
                   ', and nobody on the other side sent spans'
           END
    ) AS because
FROM piece
WHERE is_dependency AND off_ns > 0
