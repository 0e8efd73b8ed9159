-- Calls that another service answered, for a question about the sides of several of them (sides.sql).
--
-- In:  $since_ns, $until_ns (when the calls began), $from_ns (before it is the time before the requests); $highest and
--      $highest_before: traces are looked at whose id has no higher hash, around the requests and before them. Who answered
--      names the call as its parent, or shares its id (Zipkin, B3, Envoy).
-- Out: caller, callee (services), start_ns, gap_ns (how much longer the call took than its answer), and, of calls around the
--      requests, under which names the caller may have known the callee: address, peer (each HOST:PORT), url (or the span's
--      name).
CREATE OR REPLACE TEMP TABLE near_call AS
WITH
made AS (
    SELECT
        trace_id, span_id, caller.service AS caller, start_ns, end_ns - start_ns AS duration_ns,
        start_ns >= $from_ns AS is_around,
        CASE
            WHEN is_around
            THEN span.attributes['server.address'] || coalesce(':' || span.attributes['server.port'], '')
        END AS address,
        CASE
            WHEN is_around
            THEN span.attributes['net.peer.name'] || coalesce(':' || span.attributes['net.peer.port'], '')
        END AS peer,
        CASE
            WHEN is_around THEN coalesce(span.attributes['url.full'], span.attributes['http.url'], span.name)
        END AS url
    FROM span JOIN resource AS caller ON caller.resource = span.resource
    WHERE kind = 3 AND start_ns BETWEEN $since_ns AND $until_ns
      AND hash(trace_id) <= CASE WHEN start_ns < $from_ns THEN $highest_before ELSE $highest END::UBIGINT
),
answered AS (
    SELECT trace_id, unnest([parent_span_id, span_id]) AS span_id, callee.service AS callee,
           end_ns - start_ns AS duration_ns
    FROM span JOIN resource AS callee ON callee.resource = span.resource
    WHERE kind = 2 AND start_ns BETWEEN $since_ns - 60_000_000_000 AND $until_ns + 60_000_000_000
      AND hash(trace_id) <= greatest($highest_before, $highest)::UBIGINT
)
SELECT caller, callee, start_ns, made.duration_ns - answered.duration_ns AS gap_ns, address, peer, url
FROM made JOIN answered USING (trace_id, span_id)
WHERE caller <> callee;
