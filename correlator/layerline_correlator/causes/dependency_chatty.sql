-- title: made many calls where few would do
-- layer: dependency
-- order: 780
-- prepare: calls.sql
-- needs: layerline.account
-- means: The request made many more calls to the same dependency than it usually does: one query per row instead of one for all (N+1).
-- mistaken for: A slow dependency (dependency.slow): there each call takes longer, and their number is the usual one.
-- try: Ask for all at once (a join, `IN (…)`, a batch); look what grew: the calls grow with it.
-- enable: start the service with `layerline run -- CMD`
-- source: CLIENT spans without a callee, counted per dependency, beside the same operation's requests of the last hour
WITH pools AS (
    SELECT piece_no, unnest(['off', 'cpu', 'wait']) AS pool, unnest([off_left, cpu_left, wait_left]) AS left_ns
    FROM piece JOIN chatter USING (piece_no)
)
SELECT
    piece_no, pool, 'service' AS entity_type, entity_id,
    ceil(left_ns * chatter.share)::BIGINT AS lost_ns, floor(left_ns * chatter.share * 0.9)::BIGINT AS low_ns,
    (left_ns + CASE WHEN pool = 'cpu' THEN around_ns ELSE 0 END)::BIGINT AS high_ns,
    format('it made {} calls to {}{}', calls, entity_id, coalesce(format('; this operation usually makes {:.0f}', usual_calls), '')) AS because
FROM pools JOIN chatter USING (piece_no)
WHERE left_ns > 0
