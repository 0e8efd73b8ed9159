-- title: its process had just started
-- layer: app
-- order: 40
-- reads: visit piece left_over cold_usual
-- only with: cold_usual
-- needs: layerline.account
-- means: It was the first request that this process served, and took longer of its own than this operation usually does: imports, connections, caches and compilers warm up.
-- mistaken for: Slow code (app.cpu_busy): that is slow again the next time.
-- fits: container stopped or started: it is what the slow requests waited for
-- fits: new code: a deployment replaces containers
-- try: Warm up before taking traffic (a request of your own, preloading); keep processes longer (`--max-requests` of gunicorn ends them).
-- enable: start the service with `layerline run -- CMD`
-- source: the wrapper counts its process's requests; the usual of the operation
WITH own AS (
    SELECT visit.request_no, visit.visit_no, sum(cpu_left + wait_left + off_left)::BIGINT AS own_ns
    FROM visit JOIN piece USING (request_no, visit_no) JOIN left_over USING (piece_no)
    WHERE visit.is_first AND NOT is_client(piece.kind)
    GROUP BY ALL
),
above AS (
    SELECT request_no, visit_no, own_ns, usual_own_ns, own_ns - usual_own_ns AS above_ns
    FROM own JOIN cold_usual USING (request_no, visit_no)
    WHERE own_ns - usual_own_ns > 0
),
pools AS (
    SELECT piece_no, request_no, visit_no, entity_type, entity_id, unnest(['cpu', 'wait', 'off']) AS pool,
           unnest([cpu_left, wait_left, off_left]) AS left_ns
    FROM piece JOIN left_over USING (piece_no) WHERE NOT is_client(kind)
)
SELECT
    piece_no, pool,
    entity_type, entity_id,
    floor(left_ns * (above_ns / own_ns))::BIGINT AS lost_ns,
    floor(left_ns * (above_ns / own_ns))::BIGINT AS low_ns,
    left_ns                                      AS high_ns,
    format('it was the first request of its process, and its own time was {:.0f} ms instead of {:.0f}',
           own_ns / 1e6, usual_own_ns / 1e6) AS because
FROM pools JOIN above USING (request_no, visit_no)
WHERE left_ns > 0
