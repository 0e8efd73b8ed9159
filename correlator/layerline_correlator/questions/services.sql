-- Who calls whom in a window, how often and how slow.
--
-- In:  $from_ns, $to_ns (half-open, on the start of the call).
-- Out: caller, callee_type ('service': its spans were received; 'dependency': seen only from outside), callee (service
--      name; server.address:server.port), calls, errors, p50_ns and p95_ns of the caller's span.
WITH
made AS (
    SELECT
        span.trace_id, span.span_id, span.end_ns - span.start_ns AS duration_ns, span.status, span.name,
        resource.service, resource.instance,
        coalesce(
            span.attributes['server.address'] || coalesce(':' || span.attributes['server.port'], ''),
            span.attributes['net.peer.name'] || coalesce(':' || span.attributes['net.peer.port'], ''),
            nullif(
                regexp_extract(
                    coalesce(span.attributes['url.full'], span.attributes['http.url'], ''), '^[a-z+]+://([^/?#]+)', 1
                ),
                ''
            ),
            span.attributes['db.system.name'], span.attributes['db.system'], span.attributes['rpc.system'],
            span.attributes['messaging.system'], span.attributes['peer.service'],
            span.name
        ) AS address
    FROM span JOIN resource USING (resource)
    WHERE span.kind = 3 AND span.start_ns >= $from_ns AND span.start_ns < $to_ns
),
-- What hangs below a call. An answer begins with its call, give or take an hour of skew between clocks.
below AS (
    SELECT child.trace_id, child.parent_span_id AS span_id, resource.service, resource.instance
    FROM span AS child
    JOIN resource USING (resource)
    SEMI JOIN made ON made.trace_id = child.trace_id AND made.span_id = child.parent_span_id
    WHERE child.start_ns >= $from_ns - 3_600_000_000_000 AND child.start_ns < $to_ns + 3_600_000_000_000
    UNION ALL
    -- Whoever answered under the id of the call itself (Zipkin, B3, Envoy).
    SELECT answer.trace_id, answer.span_id, resource.service, resource.instance
    FROM span AS answer
    JOIN resource USING (resource)
    SEMI JOIN made ON made.trace_id = answer.trace_id AND made.span_id = answer.span_id
    WHERE answer.kind = 2
      AND answer.start_ns >= $from_ns - 3_600_000_000_000 AND answer.start_ns < $to_ns + 3_600_000_000_000
),
reached AS (
    SELECT
        made.trace_id, made.span_id, count(below.span_id) AS children,
        min(below.service) FILTER (below.instance IS DISTINCT FROM made.instance) AS callee,
        bool_or(below.instance IS DISTINCT FROM made.instance) FILTER (below.span_id IS NOT NULL) AS elsewhere
    FROM made LEFT JOIN below USING (trace_id, span_id)
    GROUP BY ALL
),
-- A call that only holds further calls of its own process (a library above another) is told by those.
call AS (
    SELECT
        coalesce(made.service, '')                                      AS caller,
        CASE WHEN elsewhere THEN 'service' ELSE 'dependency' END        AS callee_type,
        CASE WHEN elsewhere THEN coalesce(callee, '') ELSE address END  AS callee,
        duration_ns, status
    FROM made JOIN reached USING (trace_id, span_id)
    WHERE children = 0 OR elsewhere
)
SELECT
    caller, callee_type, callee, count(*) AS calls, count(*) FILTER (status = 2) AS errors,
    quantile_disc(duration_ns, 0.5) AS p50_ns, quantile_disc(duration_ns, 0.95) AS p95_ns
FROM call
GROUP BY ALL
ORDER BY calls DESC, caller, callee;
