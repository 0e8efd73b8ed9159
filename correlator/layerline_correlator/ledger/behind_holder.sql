-- What slept for long, in a process of which it was counted how many threads wanted to run. Most requests have none.
-- makes: long_sleep
-- reads: piece, visit
-- only where: piece: off_ns >= ms_of(5) AND NOT is_dependency AND NOT is_call AND NOT inferred
CREATE OR REPLACE TEMP TABLE long_sleep AS
SELECT piece_no
FROM piece
JOIN visit USING (request_no, visit_no)
WHERE off_ns >= ms_of(5) AND NOT is_dependency AND NOT is_call AND NOT piece.inferred
    AND runnable_ns IS NOT NULL AND usage_ns IS NOT NULL AND window_ns > 0;

-- Waiting for a lock that another thread of the same process holds, or for the event loop that another task holds: how long
-- did the holder itself have to wait for a CPU? What holds the holder back is what this span waits for.
--
-- While the lock is held, its holder runs or waits to run, like the container's other threads do: of the time in which those were
-- runnable, others_wait was spent waiting. The interpreter lock differs from other locks by how often its waiters wake up.
-- Where the wrapper looked at those that may hold the lock (holders.py), the holder waited at least as the least of them did;
-- where it knew the holder, as that one did.
-- Per piece: `lock_ns`, how long it waited so; `stood_ns` with low and high, how long its holder waited for a CPU meanwhile;
-- `ran_ns` with low, how long its holder ran; and `throttled_share`, how much of all waiting in the container was for its CPU
-- limit.
-- makes: behind_holder
-- reads: long_sleep, piece, visit, sampled
-- only with: long_sleep
CREATE OR REPLACE TEMP TABLE behind_holder AS
WITH
meters AS (
    SELECT
        request_no, visit_no, window_ns, wait_ns, throttled_ns,
        -- How long any thread was held back that was ready all the while.
        CASE WHEN throttled_by IS NULL
             THEN throttled_ns / cpus_held_back(throttled_ns, throttled_periods, period_ns, quota_cpus) END AS held_ns,
        not_below_zero(runnable_ns - cpu_ns - wait_ns)   AS others_runnable_ns,
        not_below_zero(runnable_ns - usage_ns - wait_ns) AS others_wait_ns
    FROM visit
    WHERE window_ns > 0
),
waits AS (
    SELECT
        piece_no, meters.*, holder_wait_low,
        -- Where the wrapper knew who held the lock, both are that thread's.
        CASE WHEN lock_held_by IS NOT NULL THEN holder_wait_high END AS known_wait_high,
        -- Who holds the event loop runs on this very thread, whose wait was read.
        CASE WHEN loop_wait_ns > 0 THEN loop_stood_ns * share END     AS loop_stood_ns,
        CASE WHEN loop_wait_ns > 0 THEN loop_stood_low_ns * share END AS loop_stood_low_ns,
        -- Looks cannot tell the interpreter lock (app_gil_waited.sql); switches can, unless they may be waits for a disk.
        CASE WHEN switches_like_gil AND NOT moved_blocks THEN off_ns
             WHEN seen_at_lock(lock_looks, asleep, voluntary_switches) THEN floor(off_ns * (lock_looks / asleep))
             WHEN loop_wait_ns > 0 THEN floor(least(off_ns, loop_wait_ns * share))
             WHEN switches_like_gil THEN off_ns
        END AS lock_ns,
        switches_like_gil AS like_gil
    FROM (
        SELECT *, voluntary_switches >= 4 AND off_ns / voluntary_switches BETWEEN ms_of(1) AND ms_of(7)
            AS switches_like_gil
        FROM piece SEMI JOIN long_sleep USING (piece_no)
    ) AS piece
    JOIN meters USING (request_no, visit_no)
    LEFT JOIN sampled USING (piece_no)
    WHERE others_wait_ns >= ms_of(2)
),
stood AS (
    SELECT
        *,
        -- Besides this one, no more than one thread wanted to run: that was the holder.
        others_runnable_ns <= 1.1 * window_ns                                  AS one_other,
        least(lock_ns, coalesce(
            loop_stood_ns,
            least_or_null(lock_ns * (holder_wait_low + known_wait_high) / 2, others_wait_ns),
            least(lock_ns * (others_wait_ns / others_runnable_ns), others_wait_ns)))     AS stood_ns,
        least(lock_ns, coalesce(loop_stood_ns, others_wait_ns))                AS stood_high_ns
    FROM waits
    WHERE lock_ns >= ms_of(5) AND others_runnable_ns > 0
)
SELECT
    piece_no, request_no, visit_no, lock_ns::BIGINT AS lock_ns,
    stood_ns::BIGINT AS stood_ns,
    CASE
        WHEN loop_stood_ns IS NOT NULL THEN least(stood_ns, coalesce(loop_stood_low_ns, 0))
        -- One thread's waits, all of them, fit into the time that this one did not wait for the lock only so far.
        WHEN one_other THEN least(stood_ns, greatest(0, others_wait_ns - (window_ns - lock_ns)))
        -- A fifth less, for the time in which nobody looked. In a crowd in which none of them slept all wait about alike: traced
        -- in the kernel, who held a lock of the app's waited at least 0.66 of this; who held the interpreter lock, 0.23.
        WHEN holder_wait_low > 0
             THEN least(stood_ns, greatest(
                 0.8 * lock_ns * holder_wait_low,
                 CASE WHEN holder_wait_low >= 0.1 AND NOT like_gil THEN 0.6 * stood_ns ELSE 0 END))
        ELSE 0
    END::BIGINT                                                                 AS stood_low_ns,
    stood_high_ns::BIGINT                                                       AS stood_high_ns,
    (lock_ns - stood_ns)::BIGINT                                                AS ran_ns,
    CASE WHEN one_other OR loop_stood_ns IS NOT NULL THEN lock_ns - stood_high_ns ELSE 0 END::BIGINT
                                                                                AS ran_low_ns,
    least(1, greatest(
        coalesce(throttled_ns / nullif(wait_ns + others_wait_ns, 0), 0),
        coalesce((held_ns - wait_ns) / nullif(stood_ns, 0), 0)))                    AS throttled_share
FROM stood;
