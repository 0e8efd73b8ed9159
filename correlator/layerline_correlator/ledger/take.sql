-- A round: what its causes claim becomes evidence, kept within what earlier rounds left of each piece, in the order of the
-- causes. `low` is taken after the clip, `high` before it. Where the pool itself was worked out from readings, a claim is no
-- surer than the pool, of which others may have had all that they may have had. (rounds.py numbers `_now` and `_next`.)

-- makes: taken_now
-- reads: claim_now, left_now, piece
CREATE OR REPLACE TEMP TABLE taken_now AS
WITH
pools AS (
    SELECT
        piece_no, length_ns, inferred,
        unnest(['cpu', 'wait', 'off', 'queued'])             AS pool,
        unnest([cpu_left, wait_left, off_left, queued_left]) AS pool_left,
        unnest([cpu_had, wait_had, off_had, queued_had])     AS had_ns,
        unnest([coalesce(cpu_low, 0), coalesce(wait_low, 0),
                greatest(0, length_ns - coalesce(cpu_high, 0) - coalesce(wait_high, 0)), 0]) AS whole_low,
        unnest([coalesce(cpu_high, 0), coalesce(wait_high, 0),
                greatest(0, length_ns - coalesce(cpu_low, 0) - coalesce(wait_low, 0)), 0])   AS pool_high
    FROM left_now JOIN piece USING (piece_no)
),
-- A cause may claim twice of one pool, for two entities: the larger claim comes first.
in_turn AS (
    SELECT
        claim_now.*, length_ns, pools.inferred AS of_inferred, pool_high, whole_low, had_ns,
        greatest(0, pool_left - coalesce(sum(greatest(0, lost_ns)) OVER before, 0)) AS left_ns
    FROM claim_now JOIN pools USING (piece_no, pool)
    WHERE lost_ns > 0 AND entity_id IS NOT NULL
    WINDOW before AS (
        PARTITION BY piece_no, pool ORDER BY turn, lost_ns DESC, entity_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
highest AS (
    SELECT
        *,
        least(greatest(high_ns, lost_ns, CASE WHEN of_inferred AND lost_ns >= left_ns THEN pool_high ELSE 0 END),
              length_ns)::BIGINT                    AS clipped_high,
        coalesce(inferred, false) OR of_inferred    AS is_inferred
    FROM in_turn
    WHERE left_ns > 0
),
-- What causes of this round may have had before.
surest AS (
    SELECT
        *,
        greatest(0, whole_low - had_ns - coalesce(sum(clipped_high) FILTER (is_inferred) OVER before, 0)) AS pool_low
    FROM highest
    WINDOW before AS (
        PARTITION BY piece_no, pool ORDER BY turn RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT
    cause, piece_no, pool, entity_type, entity_id,
    least(lost_ns, left_ns)::BIGINT AS lost_ns,
    greatest(0, least(low_ns, lost_ns, left_ns, CASE WHEN of_inferred THEN pool_low ELSE left_ns END))::BIGINT AS low_ns,
    clipped_high AS high_ns, is_inferred AS inferred, neighbours, because, place
FROM surest;

-- makes: left_next
-- reads: left_now, taken_now
CREATE OR REPLACE TEMP TABLE left_next AS
WITH sums AS (
    SELECT
        piece_no,
        coalesce(sum(lost_ns) FILTER (pool = 'cpu'),    0)::BIGINT AS cpu,
        coalesce(sum(lost_ns) FILTER (pool = 'wait'),   0)::BIGINT AS wait,
        coalesce(sum(lost_ns) FILTER (pool = 'off'),    0)::BIGINT AS off,
        coalesce(sum(lost_ns) FILTER (pool = 'queued'), 0)::BIGINT AS queued,
        coalesce(sum(high_ns) FILTER (inferred AND pool = 'cpu'),    0)::BIGINT AS cpu_high,
        coalesce(sum(high_ns) FILTER (inferred AND pool = 'wait'),   0)::BIGINT AS wait_high,
        coalesce(sum(high_ns) FILTER (inferred AND pool = 'off'),    0)::BIGINT AS off_high,
        coalesce(sum(high_ns) FILTER (inferred AND pool = 'queued'), 0)::BIGINT AS queued_high
    FROM taken_now GROUP BY piece_no
)
SELECT
    piece_no,
    cpu_left    - coalesce(cpu, 0)         AS cpu_left,
    wait_left   - coalesce(wait, 0)        AS wait_left,
    off_left    - coalesce(off, 0)         AS off_left,
    queued_left - coalesce(queued, 0)      AS queued_left,
    cpu_had     + coalesce(cpu_high, 0)    AS cpu_had,
    wait_had    + coalesce(wait_high, 0)   AS wait_had,
    off_had     + coalesce(off_high, 0)    AS off_had,
    queued_had  + coalesce(queued_high, 0) AS queued_had
FROM left_now LEFT JOIN sums USING (piece_no);
