-- title: made many calls where few would do
-- layer: dependency
-- order: 780
-- reads: piece left_over chatter node
-- only with: chatter
-- applies: call
-- needs: layerline.account
-- means: The request made many more calls to the same dependency than it usually does: one query per row instead of one for all (N+1).
-- mistaken for: A slow dependency (dependency.slow): there each call takes longer, and their number is the usual one.
-- at fault: one operation's code
-- fits: callee changed: it is what the slow requests called
-- fits: new code: new code may call it in another way
-- try database: Ask for all rows at once (a join, `IN (…)`, the ORM's eager loading); look what grew: the number of statements grows with it.
-- try cache: Ask for all keys at once (`MGET`, a pipeline), or keep what is asked for again in the process.
-- try message broker: Send in batches.
-- try: Ask for all at once (a join, `IN (…)`, a batch); look what grew: the calls grow with it.
-- enable: start the service with `layerline run -- CMD`
-- source: CLIENT spans without a callee, counted per dependency, beside the same operation's requests of the last hour
WITH
pools AS (
    SELECT piece_no, chatter.entity_id, calls, usual_calls, unnest(['off', 'cpu', 'wait']) AS pool,
           unnest([off_left, cpu_left, wait_left]) AS high_ns, chatter.share
    FROM piece JOIN left_over USING (piece_no) JOIN chatter USING (piece_no)
),
-- The code around each call (driver, loop) runs for its sake: up to a fifth of a millisecond a call is taken to be that.
around AS (
    SELECT caller.piece_no, chatter.entity_id, any_value(calls) AS calls, any_value(usual_calls) AS usual_calls,
           least(left_over.cpu_left * avg(chatter.share), 200_000 * sum(chatter.share)) AS lost_ns,
           -- At least a tenth of that: a span alone takes more.
           least(left_over.cpu_left * avg(chatter.share), 20_000 * sum(chatter.share))  AS low_ns,
           left_over.cpu_left AS high_ns
    FROM chatter
    JOIN piece AS call ON call.piece_no = chatter.piece_no
    JOIN node ON node.span_no = call.span_no
    JOIN piece AS caller ON caller.request_no = call.request_no AND caller.span_no = node.parent_no
    JOIN left_over ON left_over.piece_no = caller.piece_no
    WHERE NOT is_client(caller.kind)
    GROUP BY caller.piece_no, chatter.entity_id, left_over.cpu_left
),
claims AS (
    SELECT
        piece_no,
        pool,
        entity_id,
        calls,
        usual_calls,
        ceil(high_ns * share) AS lost_ns,
        floor(high_ns * share * 0.9) AS low_ns,
           high_ns
    FROM pools
    UNION ALL
    SELECT piece_no, 'cpu', entity_id, calls, usual_calls, lost_ns, floor(low_ns), high_ns FROM around
)
SELECT
    piece_no, pool, 'service' AS entity_type, entity_id, lost_ns::BIGINT AS lost_ns, low_ns::BIGINT AS low_ns,
    high_ns::BIGINT AS high_ns,
    format(
        'it made {} calls to {}{}',
        calls,
        entity_id,
        coalesce(format('; this operation usually makes {:.0f}', usual_calls), '')
    ) AS because
FROM claims
WHERE lost_ns > 0
