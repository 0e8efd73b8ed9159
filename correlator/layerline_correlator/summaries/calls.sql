-- Who called whom, call by call. Made when a store is opened.

-- How long before or after its call, by the clocks of both machines, an answer may begin.
CREATE OR REPLACE MACRO answers_within_ns() AS seconds_long(600);

-- The calls that began in [since_ns, until_ns).
-- Out: trace_id, span_id (of the caller's span), caller (service), callee_type ('service': its spans were received; 'dependency': seen only from outside), callee
-- (service name; server.address:server.port), operation (the name of the answering span, else of the caller's),
-- start_ns, duration_ns and status of the caller's span, gap_ns (what that took longer than the answering span) and
-- answer_status (both null where there is none).
CREATE OR REPLACE MACRO calls_in(since_ns, until_ns) AS TABLE
WITH
made AS MATERIALIZED (
    SELECT
        span.trace_id, span.span_id, span.start_ns, span.end_ns - span.start_ns AS duration_ns, span.status, span.name,
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
    WHERE is_client(span.kind) AND span.start_ns >= since_ns AND span.start_ns < until_ns
),
-- What hangs below a call.
below AS (
    SELECT child.trace_id, child.parent_span_id AS span_id, child.end_ns - child.start_ns AS answer_ns,
           resource.service, resource.instance, child.name, child.status
    FROM span AS child
    JOIN resource USING (resource)
    SEMI JOIN made ON made.trace_id = child.trace_id AND made.span_id = child.parent_span_id
    WHERE child.start_ns >= since_ns - answers_within_ns() AND child.start_ns < until_ns + answers_within_ns()
    UNION ALL
    -- Whoever answered under the id of the call itself (Zipkin, B3, Envoy).
    SELECT answer.trace_id, answer.span_id, answer.end_ns - answer.start_ns, resource.service, resource.instance,
           answer.name, answer.status
    FROM span AS answer
    JOIN resource USING (resource)
    SEMI JOIN made ON made.trace_id = answer.trace_id AND made.span_id = answer.span_id
    WHERE is_server(answer.kind)
      AND answer.start_ns >= since_ns - answers_within_ns() AND answer.start_ns < until_ns + answers_within_ns()
),
reached AS (
    SELECT
        made.trace_id, made.span_id, made.start_ns, made.duration_ns, made.status, made.service, made.address,
        coalesce(min(below.name) FILTER (below.instance IS DISTINCT FROM made.instance), made.name) AS operation,
        count(below.span_id) AS children,
        min(below.service) FILTER (below.instance IS DISTINCT FROM made.instance) AS callee,
        max(answer_ns) FILTER (below.instance IS DISTINCT FROM made.instance) AS answer_ns,
        max(below.status) FILTER (below.instance IS DISTINCT FROM made.instance) AS answer_status,
        bool_or(below.instance IS DISTINCT FROM made.instance) FILTER (below.span_id IS NOT NULL) AS elsewhere
    FROM made LEFT JOIN below USING (trace_id, span_id)
    GROUP BY
        made.trace_id, made.span_id, made.start_ns, made.duration_ns, made.status, made.service, made.address, made.name
)
-- A call that only holds further calls of its own process (a library above another) is counted by those.
SELECT
    trace_id, span_id,
    coalesce(service, '')                                           AS caller,
    CASE WHEN elsewhere THEN 'service' ELSE 'dependency' END        AS callee_type,
    CASE WHEN elsewhere THEN coalesce(callee, '') ELSE address END  AS callee,
    operation, start_ns, duration_ns, status, duration_ns - answer_ns AS gap_ns, answer_status
FROM reached
WHERE children = 0 OR elsewhere;
