-- One cause's claims become evidence: `low` after the clip, `high` before it. Where the pool itself was worked out from
-- readings, a claim is no surer than the pool, of which others may have had all that they may have had.
INSERT INTO evidence
WITH
pools AS (
    SELECT
        piece_no, length_ns, inferred,
        unnest(['cpu', 'wait', 'off', 'queued'])               AS pool,
        unnest([cpu_left, wait_left, off_left, queued_left])   AS left_ns,
        unnest([coalesce(cpu_low, 0), coalesce(wait_low, 0),
                greatest(0, length_ns - coalesce(cpu_high, 0) - coalesce(wait_high, 0)), 0]) AS whole_low,
        unnest([coalesce(cpu_high, 0), coalesce(wait_high, 0),
                greatest(0, length_ns - coalesce(cpu_low, 0) - coalesce(wait_low, 0)), 0])   AS pool_high
    FROM piece
),
had AS (SELECT piece_no, pool, sum(high_ns) AS had_ns FROM evidence WHERE inferred GROUP BY ALL),
sure AS (
    SELECT pools.*, greatest(0, whole_low - coalesce(had_ns, 0)) AS pool_low FROM pools LEFT JOIN had USING (piece_no, pool)
),
-- A cause may claim twice of one pool, for two entities: the larger claim comes first.
in_turn AS (
    SELECT
        claim.*, length_ns, sure.inferred AS of_inferred, pool_low, pool_high,
        greatest(0, left_ns - coalesce(sum(greatest(0, lost_ns)) OVER (
            PARTITION BY piece_no, pool ORDER BY lost_ns DESC, entity_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)) AS left_ns
    FROM claim JOIN sure USING (piece_no, pool)
    WHERE lost_ns > 0 AND entity_id IS NOT NULL
)
SELECT * EXCLUDE (length_ns, of_inferred, pool_low, pool_high, left_ns) REPLACE (
    least(lost_ns, left_ns)::BIGINT AS lost_ns,
    greatest(0, least(low_ns, lost_ns, left_ns, CASE WHEN of_inferred THEN pool_low ELSE left_ns END))::BIGINT AS low_ns,
    least(greatest(high_ns, lost_ns, CASE WHEN of_inferred AND lost_ns >= left_ns THEN pool_high ELSE 0 END), length_ns)::BIGINT
        AS high_ns,
    coalesce(inferred, false) OR of_inferred AS inferred
)
FROM in_turn
WHERE left_ns > 0;

UPDATE piece
SET cpu_left = cpu_left - taken.cpu, wait_left = wait_left - taken.wait,
    off_left = off_left - taken.off, queued_left = queued_left - taken.queued
FROM (
    SELECT
        piece_no,
        coalesce(sum(lost_ns) FILTER (pool = 'cpu'),    0)::BIGINT AS cpu,
        coalesce(sum(lost_ns) FILTER (pool = 'wait'),   0)::BIGINT AS wait,
        coalesce(sum(lost_ns) FILTER (pool = 'off'),    0)::BIGINT AS off,
        coalesce(sum(lost_ns) FILTER (pool = 'queued'), 0)::BIGINT AS queued
    FROM evidence WHERE cause = $cause GROUP BY piece_no
) AS taken
WHERE taken.piece_no = piece.piece_no;

DELETE FROM claim;
