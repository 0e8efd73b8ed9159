-- Waiting for a CPU without being held back by a limit: who ran meanwhile?

-- The rest of a visit's wait is shared between the container's own other threads and everybody else in the proportion
-- in which they ran, each at most what that party ran. What no party can have caused stays unexplained.
-- Where the other side of a call was late for want of a CPU (held_up.sql), that is shared as the wait of its handler was.
-- makes: contention
-- reads: piece, left_over, behind_holder, visit, seen, ran
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
busy AS (
    SELECT request_no, visit_no,
           sum(estimate) AS busy_ns, sum(high) AS busy_high_ns
    FROM seen
    WHERE piece_no IS NULL AND signal = 'system.cpu.time' AND covered_ns >= 0.9 * stretch_ns
      AND attributes['cpu.mode'] NOT IN ('idle', 'iowait', 'steal')
    GROUP BY ALL
),
-- A machine of many CPUs is busy elsewhere too. Others cannot have run more on the CPUs that this process may use than
-- its container left free there.
room AS (
    SELECT
        request_no, visit_no, host, cpu_ns, usage_ns, greatest(coalesce(usage_ns, 0), cpu_ns) AS used_ns,
        -- The container's threads that wanted to run, this one among them, were never more than its CPUs, in the mean.
        coalesce(runnable_ns - cpu_ns - wait_ns <= 1.1 * (cpus - 1) * window_ns::DOUBLE, FALSE) AS has_enough,
        CASE
            WHEN cpus IS NOT NULL THEN greatest(0, cpus * window_ns::DOUBLE - greatest(coalesce(usage_ns, 0), cpu_ns))
        END
            AS room_ns
    FROM visit
),
parties AS (
    SELECT
        request_no, visit_no, rest_ns, rest_low_ns, rest_high_ns, room.host,
        -- Who holds the lock does not take the CPU from itself. (Where nobody knows what others ran, it may be all that ran.)
        not_below_zero(usage_ns - cpu_ns - if(busy_ns IS NULL, 0, holder_ran_ns))::DOUBLE             AS own_ns,
        not_below_zero(usage_ns - cpu_ns - if(busy_ns IS NULL, 0, holder_ran_low_ns))::DOUBLE         AS own_high_ns,
        least_or_null(not_below_zero(busy_ns - used_ns), coalesce(room_ns, busy_ns))                  AS others_ns,
        least_or_null(not_below_zero(busy_high_ns - used_ns), coalesce(room_ns, busy_high_ns))        AS others_high_ns,
        has_enough
    FROM rest JOIN room USING (request_no, visit_no) LEFT JOIN busy USING (request_no, visit_no)
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
    -- What ran and has no name that we know of were processes of the machine itself; what they ran before is not known,
    -- and taken to have grown like the rest.
    CASE WHEN others_ns - coalesce(named_ns, 0) > 0.01 * others_ns
         THEN list_append(coalesce(neighbours, []),
                          {'entity_type': 'host', 'entity_id': split.host,
                           'ran_ns': ((others_ns - coalesce(named_ns, 0)) * CASE WHEN more_ns >= 0.1 * named_ns
                                                                                THEN more_ns / named_ns ELSE 1 END
                                                                                )::BIGINT
                                                                                }
                                                                                )
         ELSE neighbours END AS neighbours
FROM waiting
JOIN split USING (request_no, visit_no)
LEFT JOIN (
    -- Named by what they ran more than before; where nobody did, by what they ran.
    SELECT request_no, visit_no, sum(ran_ns) AS named_ns, sum(more_ns) AS more_ns,
           list({'entity_type': entity_type, 'entity_id': entity_id,
                 'ran_ns': CASE WHEN unusual THEN more_ns ELSE ran_ns END}
                ORDER BY ran_ns DESC, entity_id) FILTER (NOT unusual OR more_ns > 0) AS neighbours
    FROM (SELECT *, sum(more_ns) OVER each >= 0.1 * sum(ran_ns) OVER each AS unusual FROM ran
          WINDOW each AS (PARTITION BY request_no, visit_no))
    GROUP BY ALL
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
        CASE WHEN party = 'neighbour' THEN neighbours END                                 AS named
    FROM contention, parties
),
shared_out AS (
    SELECT
        party, piece.request_no, piece.visit_no,
        any_value(charged.entity_type) AS entity_type,
        any_value(charged.entity_id) AS entity_id,
        any_value(named) AS named,
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
    named AS neighbours,
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
    named AS neighbours,
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
    named AS neighbours,
    format('for {:.0f} ms of “{}” the other side had not begun, or had ended; its container waited for a CPU then',
           off_left / 1e6, name) AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN held_up USING (piece_no)
JOIN shared_out ON shared_out.request_no = piece.request_no AND shared_out.visit_no = held_up.answer_no
WHERE off_left > 0 AND pressed > throttled AND part > 0;
