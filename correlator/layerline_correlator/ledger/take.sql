-- A round: what its causes claim becomes evidence, kept within what earlier rounds left of each piece, in the order of the
-- causes. (rounds.py numbers `_now` and `_next`.)
--
-- A claim without `lost_ns` is for all that is left. Without `low_ns` it is as uncertain as what was taken before it: what an
-- earlier cause may have had besides is not surely its own. Where the pool itself was worked out from readings, no claim is
-- surer than the pool, of which others may have had all that they may have had.

-- makes: taken_now
-- reads: claim_now, left_now, piece
CREATE OR REPLACE TEMP TABLE taken_now AS
WITH
pools AS (
    SELECT
        piece_no, length_ns, inferred AS of_inferred,
        unnest(['cpu', 'wait', 'off', 'queued'])                                         AS pool,
        unnest([cpu_left, wait_left, off_left, queued_left])                             AS pool_left,
        unnest([cpu_left_low, wait_left_low, off_left_low, queued_left_low])             AS pool_low,
        unnest([cpu_left_high, wait_left_high, off_left_high, queued_left_high])         AS pool_high
    FROM left_now JOIN piece USING (piece_no)
),
-- A cause may claim twice of one pool, for two entities: the larger claim comes first.
in_turn AS (
    SELECT
        claim_now.* EXCLUDE (place),
        claim_now.place AS place_of,
        lost_ns IS NULL AS is_rest,
        length_ns,
        of_inferred,
        pool_low,
        pool_high,
        greatest(0, pool_left - coalesce(sum(coalesce(lost_ns, pool_left)) OVER before, 0)) AS left_ns,
        row_number() OVER (PARTITION BY piece_no, pool ORDER BY turn, lost_ns DESC NULLS LAST, entity_id) AS place
    FROM (FROM claim_now WHERE coalesce(lost_ns, 1) > 0 AND entity_id IS NOT NULL) AS claim_now
    JOIN pools USING (piece_no, pool)
    WINDOW before AS (
        PARTITION BY piece_no, pool ORDER BY turn, lost_ns DESC NULLS LAST, entity_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
highest AS (
    SELECT
        * REPLACE (least(coalesce(lost_ns, left_ns), left_ns)::BIGINT AS lost_ns),
        CASE WHEN NOT is_rest
             THEN least(
                 greatest(high_ns, lost_ns, CASE WHEN of_inferred AND lost_ns >= left_ns THEN pool_high ELSE 0 END),
                        length_ns)::BIGINT END AS claimed_high
    FROM in_turn
    WHERE left_ns > 0
),
surest AS (
    SELECT
        *,
        CASE WHEN low_ns IS NULL OR of_inferred
             THEN greatest(0, pool_low - coalesce(sum(claimed_high) OVER before, 0)) ELSE left_ns END AS left_low,
        greatest(0, least(low_ns, lost_ns, left_low))::BIGINT AS surely_ns
    FROM highest
    WINDOW before AS (
        PARTITION BY piece_no, pool ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT
    cause, piece_no, pool, entity_type, entity_id, lost_ns, surely_ns AS low_ns,
    -- At most what causes before it did not surely have.
    least(
        greatest(
            lost_ns, least(coalesce(claimed_high, length_ns), pool_high - coalesce(sum(surely_ns) OVER before, 0))
        ),
          length_ns)::BIGINT AS high_ns,
    coalesce(inferred, FALSE) OR of_inferred AS inferred, neighbours_no,
    replace(because, '{lost}', format('{:.0f} ms', lost_ns / 1e6)) AS because, place_of AS place
FROM surest
WINDOW before AS (
    PARTITION BY piece_no, pool ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
);

-- makes: left_next
-- reads: left_now, taken_now
CREATE OR REPLACE TEMP TABLE left_next AS
WITH sums AS (
    SELECT
        piece_no,
        sum(lost_ns) FILTER (pool = 'cpu')    AS cpu,
        sum(lost_ns) FILTER (pool = 'wait')   AS wait,
        sum(lost_ns) FILTER (pool = 'off')    AS off,
        sum(lost_ns) FILTER (pool = 'queued') AS queued,
        sum(low_ns)  FILTER (pool = 'cpu')    AS cpu_low,
        sum(low_ns)  FILTER (pool = 'wait')   AS wait_low,
        sum(low_ns)  FILTER (pool = 'off')    AS off_low,
        sum(low_ns)  FILTER (pool = 'queued') AS queued_low,
        sum(high_ns) FILTER (pool = 'cpu')    AS cpu_high,
        sum(high_ns) FILTER (pool = 'wait')   AS wait_high,
        sum(high_ns) FILTER (pool = 'off')    AS off_high,
        sum(high_ns) FILTER (pool = 'queued') AS queued_high
    FROM taken_now GROUP BY piece_no
)
SELECT
    piece_no,
    (cpu_left    - coalesce(cpu, 0))::BIGINT    AS cpu_left,
    (wait_left   - coalesce(wait, 0))::BIGINT   AS wait_left,
    (off_left    - coalesce(off, 0))::BIGINT    AS off_left,
    (queued_left - coalesce(queued, 0))::BIGINT AS queued_left,
    greatest(0, cpu_left_low    - coalesce(cpu_high, 0))::BIGINT    AS cpu_left_low,
    greatest(0, wait_left_low   - coalesce(wait_high, 0))::BIGINT   AS wait_left_low,
    greatest(0, off_left_low    - coalesce(off_high, 0))::BIGINT    AS off_left_low,
    greatest(0, queued_left_low - coalesce(queued_high, 0))::BIGINT AS queued_left_low,
    (cpu_left_high    - coalesce(cpu_low, 0))::BIGINT    AS cpu_left_high,
    (wait_left_high   - coalesce(wait_low, 0))::BIGINT   AS wait_left_high,
    (off_left_high    - coalesce(off_low, 0))::BIGINT    AS off_left_high,
    (queued_left_high - coalesce(queued_low, 0))::BIGINT AS queued_left_high
FROM left_now LEFT JOIN sums USING (piece_no);
