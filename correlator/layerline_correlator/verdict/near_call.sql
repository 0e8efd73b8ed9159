-- Calls that another service answered, for a question about the sides of several of them (sides.sql).
--
-- In:  $since_ns, $until_ns (when the calls began). Who answered names the call as its parent, or shares its id (Zipkin,
--      B3, Envoy).
-- Out: caller, callee (services), start_ns, gap_ns (how much longer the call took than its answer), and under which names
--      the caller may have known the callee: address, peer (each HOST:PORT), url (or the span's name).
CREATE OR REPLACE TEMP TABLE near_call AS
WITH
made AS (
    SELECT
        trace_id, span_id, caller.service AS caller, start_ns, end_ns - start_ns AS duration_ns,
        span.attributes['server.address'] || coalesce(':' || span.attributes['server.port'], '') AS address,
        span.attributes['net.peer.name'] || coalesce(':' || span.attributes['net.peer.port'], '') AS peer,
        coalesce(span.attributes['url.full'], span.attributes['http.url'], span.name) AS url
    FROM span JOIN resource AS caller ON caller.resource = span.resource
    WHERE kind = 3 AND start_ns BETWEEN $since_ns AND $until_ns
),
answered AS (
    SELECT trace_id, unnest([parent_span_id, span_id]) AS span_id, callee.service AS callee,
           end_ns - start_ns AS duration_ns
    FROM span JOIN resource AS callee ON callee.resource = span.resource
    WHERE kind = 2 AND start_ns BETWEEN $since_ns - 60_000_000_000 AND $until_ns + 60_000_000_000
)
SELECT caller, callee, start_ns, made.duration_ns - answered.duration_ns AS gap_ns, address, peer, url
FROM made JOIN answered USING (trace_id, span_id)
WHERE caller <> callee;
