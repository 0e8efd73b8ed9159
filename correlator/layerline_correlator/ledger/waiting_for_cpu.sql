-- Waiting for a CPU without being held back by a limit: who ran meanwhile?

-- The rest of a visit's wait is shared between the container's own other threads and everybody else in the proportion
-- in which they ran, each at most what that party ran. What no party can have caused stays unexplained.
-- Where the other side of a call was late for want of a CPU (held_up.sql), that is shared as the wait of its handler was.
-- makes: contention
-- reads: piece, left_over, behind_holder, others_ran, neighbours
-- only with: left_over
CREATE OR REPLACE TEMP TABLE contention AS
WITH
-- What was slept behind a thread that itself waited for a CPU, and not for the CPU limit (behind_holder.sql).
waiting AS (
    SELECT
        piece_no, piece.request_no, piece.visit_no, container_id, instance, wait_left, wait_left_low, wait_left_high,
        coalesce(least_or_null(off_left, stood_ns * (1 - throttled_share)), 0)           AS behind_ns,
        coalesce(least_or_null(off_left, stood_low_ns * (1 - throttled_share)), 0)       AS behind_low_ns,
        coalesce(least_or_null(off_left_high, stood_high_ns * (1 - throttled_share)), 0) AS behind_high_ns,
        coalesce(ran_ns, 0)                                                              AS holder_ran_ns,
        coalesce(ran_low_ns, 0)                                                          AS holder_ran_low_ns
    FROM piece
    JOIN left_over USING (piece_no)
    LEFT JOIN behind_holder USING (piece_no)
),
rest AS (
    SELECT
        request_no, visit_no,
        sum(wait_left + behind_ns)::DOUBLE           AS rest_ns,
        sum(wait_left_low + behind_low_ns)::DOUBLE   AS rest_low_ns,
        sum(wait_left_high + behind_high_ns)::DOUBLE AS rest_high_ns,
        sum(holder_ran_ns)                           AS holder_ran_ns,
        sum(holder_ran_low_ns)                       AS holder_ran_low_ns
    FROM waiting
    GROUP BY ALL HAVING rest_ns > 0
),
parties AS (
    SELECT
        request_no, visit_no, rest_ns, rest_low_ns, rest_high_ns, host, others_ns, others_high_ns, has_enough,
        -- Who holds the lock does not take the CPU from itself. (Where nobody knows what others ran, it may be all that ran.)
        not_below_zero(usage_ns - cpu_ns - if(busy_ns IS NULL, 0, holder_ran_ns))::DOUBLE     AS own_ns,
        not_below_zero(usage_ns - cpu_ns - if(busy_ns IS NULL, 0, holder_ran_low_ns))::DOUBLE AS own_high_ns
    FROM rest JOIN others_ran USING (request_no, visit_no)
),
-- Without readings of the host, what its own threads cannot have caused was caused by somebody else; the rest is open.
split AS (
    SELECT
        *,
        CASE WHEN others_ns IS NULL THEN 0
             WHEN coalesce(own_ns, 0) + others_ns = 0 THEN 0
             WHEN has_enough THEN least(coalesce(own_ns, 0), not_below_zero(rest_ns - others_ns))
             ELSE least(coalesce(own_ns, 0), rest_ns * coalesce(own_ns, 0) / (coalesce(own_ns, 0) + others_ns)) END
            AS app_ns,
        CASE WHEN others_ns IS NULL THEN CASE WHEN own_ns IS NULL THEN 0 ELSE greatest(0, rest_ns - own_ns) END
             WHEN coalesce(own_ns, 0) + others_ns = 0 THEN 0
             WHEN has_enough THEN least(others_ns, rest_ns)
             ELSE least(others_ns, rest_ns::HUGEINT * others_ns / (coalesce(own_ns, 0) + others_ns)) END
            AS host_ns,
        -- Where each of its own threads could have had a CPU, they took one from each other only while the kernel had put
        -- them on the same one.
        CASE WHEN has_enough AND others_ns IS NOT NULL
             THEN least(own_high_ns, not_below_zero(rest_high_ns - others_ns) + 0.1 * rest_high_ns::DOUBLE)
             ELSE own_high_ns END AS own_most_ns
    FROM parties
)
SELECT
    piece_no, container_id, instance, split.host, rest_ns, rest_low_ns, rest_high_ns, own_ns, others_ns,
    wait_left / rest_ns                                                       AS share,
    coalesce(wait_left_low / nullif(rest_low_ns, 0), 0)                       AS low_share,
    coalesce(wait_left_high / nullif(rest_high_ns, 0), 0)                     AS high_share,
    behind_ns,
    behind_ns / rest_ns                                                       AS behind_share,
    coalesce(behind_low_ns / nullif(rest_low_ns, 0), 0)                       AS behind_low_share,
    coalesce(behind_high_ns / nullif(rest_high_ns, 0), 0)                     AS behind_high_share,
    app_ns, host_ns,
    -- What is left of the wait is as uncertain as what was taken from it.
    least(app_ns,  greatest(0, rest_low_ns - coalesce(others_high_ns, rest_low_ns)))    AS app_low_ns,
    greatest(app_ns, least(rest_high_ns, coalesce(own_most_ns, 0)))                     AS app_high_ns,
    least(host_ns, greatest(0, rest_low_ns - coalesce(own_most_ns, rest_low_ns)))       AS host_low_ns,
    greatest(host_ns, least(rest_high_ns, coalesce(others_high_ns, rest_high_ns)))      AS host_high_ns,
    neighbours_no
FROM waiting
JOIN split USING (request_no, visit_no)
LEFT JOIN (
    SELECT request_no, visit_no, neighbours_no FROM neighbours WHERE shared = 'cpu' AND neighbours IS NOT NULL
) AS named USING (request_no, visit_no)
WHERE wait_left + behind_ns > 0;

-- What each party is charged: `own` threads of the container, or a `neighbour`; in the span that waited, and in the call that
-- its lateness held up.
-- makes: cpu_rival
-- reads: contention, piece, left_over, held_up, behind_holder
-- only with: contention
CREATE OR REPLACE TEMP TABLE cpu_rival AS
WITH
parties(party) AS (VALUES ('own'), ('neighbour')),
-- Whom each party stands for, and how much of the whole visit's wait it is charged.
charged AS (
    SELECT
        contention.*, party,
        CASE WHEN party = 'neighbour' THEN 'host' WHEN container_id IS NULL THEN 'process' ELSE 'container' END
            AS entity_type,
        CASE WHEN party = 'neighbour' THEN host ELSE coalesce(container_id, instance) END AS entity_id,
        CASE WHEN party = 'neighbour' THEN host_ns ELSE app_ns END                        AS charged_ns,
        CASE WHEN party = 'neighbour' THEN host_low_ns ELSE app_low_ns END                AS charged_low_ns,
        CASE WHEN party = 'neighbour' THEN host_high_ns ELSE app_high_ns END              AS charged_high_ns,
        CASE WHEN party = 'neighbour' THEN neighbours_no END                              AS named_no
    FROM contention, parties
),
shared_out AS (
    SELECT
        party, piece.request_no, piece.visit_no,
        any_value(charged.entity_type) AS entity_type,
        any_value(charged.entity_id) AS entity_id,
        any_value(named_no) AS named_no,
        any_value(charged_ns / nullif(host_ns + app_ns, 0)) AS part,
        any_value(coalesce(charged_low_ns / nullif(rest_low_ns, 0), 0))   AS low_part,
        any_value(coalesce(charged_high_ns / nullif(rest_high_ns, 0), 0)) AS high_part
    FROM charged JOIN piece USING (piece_no)
    GROUP BY party, piece.request_no, piece.visit_no
)
SELECT
    party, piece_no, 'wait' AS pool, entity_type, entity_id,
    floor(charged_ns * share)::BIGINT           AS lost_ns,
    floor(charged_low_ns * low_share)::BIGINT   AS low_ns,
    floor(charged_high_ns * high_share)::BIGINT AS high_ns,
    named_no AS neighbours_no,
    CASE WHEN party = 'neighbour'
         THEN format('its thread stood ready {:.0f} ms without a CPU and without being throttled{}', rest_ns / 1e6,
                     coalesce(format('; others ran {:.0f} ms meanwhile', others_ns / 1e6), ''))
         ELSE format('its thread stood ready {:.0f} ms without a CPU; other threads of its own ran {:.0f} ms meanwhile',
                     rest_ns / 1e6, own_ns / 1e6)
    END AS because
FROM charged
UNION ALL BY NAME
-- only with: behind_holder
SELECT
    party, piece_no, 'off' AS pool, entity_type, entity_id,
    floor(charged_ns * behind_share)::BIGINT           AS lost_ns,
    floor(charged_low_ns * behind_low_share)::BIGINT   AS low_ns,
    floor(charged_high_ns * behind_high_share)::BIGINT AS high_ns,
    named_no AS neighbours_no,
    format('it waited for a lock, and the thread that held it waited {:.0f} ms for a CPU meanwhile', behind_ns / 1e6)
        AS because
FROM charged SEMI JOIN behind_holder ON behind_holder.piece_no = charged.piece_no
WHERE behind_ns > 0
UNION ALL BY NAME
-- only with: held_up
SELECT
    party, piece_no, 'off' AS pool, shared_out.entity_type, shared_out.entity_id,
    floor(least(off_left, not_below_zero(pressed - throttled)) * part)::BIGINT              AS lost_ns,
    floor(least(off_left, not_below_zero(pressed_low - throttled_high)) * low_part)::BIGINT AS low_ns,
    floor(least(off_left, pressed_high) * high_part)::BIGINT                                AS high_ns,
    TRUE AS inferred,
    named_no AS neighbours_no,
    format('for {:.0f} ms of “{}” the other side had not begun, or had ended; its container waited for a CPU then',
           off_left / 1e6, name) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN held_up USING (piece_no)
JOIN shared_out ON shared_out.request_no = piece.request_no AND shared_out.visit_no = held_up.answer_no
WHERE off_left > 0 AND pressed > throttled AND part > 0;
