-- title: waited for the interpreter lock
-- layer: app
-- order: 700
-- reads: piece left_over visit behind_holder
-- where: off_ns >= ms_of(10) AND voluntary_switches >= 4 AND NOT is_dependency AND NOT is_call
-- needs: layerline.account, layerline.container.usage_ns
-- means: Another thread of the same process ran Python code meanwhile; only one can at a time (the global interpreter lock).
-- mistaken for: A lock of the app's own (app.lock_waited) or a sleep (app.blocked): those wake up a few times, not hundreds of times a second. Too few CPUs (app.cpu_crowded): there the thread stands ready.
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- takes over: app.cpu_crowded, host.cpu_contended
-- try: Move the computing thread to a process of its own, or to code that releases the lock; more worker processes, fewer threads.
-- enable: start the service with `layerline run -- CMD`
-- source: ru_nvcsw: a waiter wakes up each switch interval (5 ms, sys.getswitchinterval); CPU time of its container
WITH candidates AS (
    SELECT
        piece.*, off_left, off_left_low, off_left_high,
        greatest(0, coalesce(visit.usage_ns, 0) - visit.cpu_ns) AS others_ns,
        -- also what was taken for what held the lock's holder back (behind_holder.sql) was slept so
        (off_left + coalesce(stood_ns, 0)) / voluntary_switches AS per_switch
    FROM piece
    JOIN left_over USING (piece_no)
    JOIN visit USING (request_no, visit_no)
    LEFT JOIN behind_holder USING (piece_no)
    WHERE off_left >= 10_000_000 AND voluntary_switches >= 4 AND NOT is_dependency AND NOT is_call
)
-- A thread that waits for the lock wakes up every 5 ms and asks for it; each turn costs one or two switches.
SELECT
    piece_no, 'off' AS pool,
    entity_type, entity_id,
    least(off_left, 5_500_000 * voluntary_switches, others_ns)::BIGINT AS lost_ns,
    -- Looks cannot tell how much of it: who looks needs the interpreter too, and gets it when the waiter does. Each time
    -- that it gave its CPU up it may also have slept on its own account, briefly: traced in the kernel, code that sleeps
    -- between short steps did so for at most 0.12 ms a switch.
    greatest(0, least(
        off_left_low,
        least(off_left, 5_500_000 * voluntary_switches, others_ns) - 250_000 * voluntary_switches))::BIGINT AS low_ns,
    off_left_high AS high_ns,
    format(
        'its thread slept and woke {} times in {:.0f} ms, as one does that waits for the interpreter lock, '
        || 'while other threads of its own ran {:.0f} ms',
           voluntary_switches, off_left / 1e6, others_ns / 1e6) AS because
FROM candidates
WHERE per_switch BETWEEN 800_000 AND 7_000_000
  AND others_ns >= 0.3 * off_left
