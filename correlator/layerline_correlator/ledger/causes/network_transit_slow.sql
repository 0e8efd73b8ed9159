-- title: the way between caller and callee took long
-- layer: network
-- order: 860
-- reads: piece
-- where: is_answered AND off_ns > 0
-- applies: answered call
-- needs: layerline.account | container.cpu.time
-- means: Between the moment that it called and the moment that the other side had the request, or between the answer and its arrival, time passed that neither of them spent.
-- mistaken for: A callee that is short of workers (app.queue_waited): there the request had arrived. A callee whose container stood still before its handler began (container.cpu_throttled, host.cpu_contended): there its throttled time or CPU pressure grew. A callee without our wrapper may also have been late to begin.
-- fits: callee changed: it is what the slow requests called
-- fits: new code: new code may call it in another way
-- try: Look at the link (bandwidth limits, distance, proxies between the two) and at the size of what is sent.
-- enable: start both services with `layerline run -- CMD`
-- source: CLIENT span of the caller, SERVER span of the callee; TCP_INFO at the callee
SELECT
    piece_no,
    'off' AS pool,
    'service' AS entity_type,
    coalesce(nullif(address, ''), dependency_kind, name) AS entity_id,
    NULL AS lost_ns, NULL AS low_ns, NULL AS high_ns,
    format('“{}” was under way for {} in which the other side had not begun, or had ended', name, '{lost}') AS because
FROM piece
WHERE is_answered AND off_ns > 0
