-- One cause's claims become evidence: `low` after the clip, `high` before it.
INSERT INTO evidence
SELECT
    claim.* REPLACE (
        greatest(0, least(lost_ns, left_ns)) AS lost_ns,
        greatest(0, least(low_ns, lost_ns, left_ns)) AS low_ns,
        least(greatest(high_ns, lost_ns), length_ns) AS high_ns,
        coalesce(inferred, false) AS inferred
    )
FROM claim
JOIN (
    SELECT piece_no, length_ns, unnest(['cpu', 'wait', 'off']) AS pool, unnest([cpu_left, wait_left, off_left]) AS left_ns
    FROM piece
) AS pools USING (piece_no, pool)
WHERE lost_ns > 0 AND entity_id IS NOT NULL;

UPDATE piece
SET cpu_left = cpu_left - cpu_ns_taken, wait_left = wait_left - wait_ns_taken, off_left = off_left - off_ns_taken
FROM (
    SELECT
        piece_no,
        coalesce(sum(lost_ns) FILTER (pool = 'cpu'),  0)::BIGINT AS cpu_ns_taken,
        coalesce(sum(lost_ns) FILTER (pool = 'wait'), 0)::BIGINT AS wait_ns_taken,
        coalesce(sum(lost_ns) FILTER (pool = 'off'),  0)::BIGINT AS off_ns_taken
    FROM evidence WHERE cause = $cause GROUP BY piece_no
) AS taken
WHERE taken.piece_no = piece.piece_no;

DELETE FROM claim;
