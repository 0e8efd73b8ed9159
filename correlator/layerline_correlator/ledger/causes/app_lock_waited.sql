-- title: waited for a lock
-- layer: app
-- order: 710
-- reads: piece left_over sampled
-- only with: sampled
-- needs: layerline.account, layerline.samples
-- means: The thread waited for a lock, an event or a queue of its own process that somebody else held or had not filled.
-- mistaken for: The interpreter lock (app.gil_waited), which wakes its waiters every 5 ms. A pool that is used up (app.pool_waited): there the code that waits is the pool's.
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: See who holds it: the place is named. Hold it for less, or split it.
-- enable: start the service with `layerline run -- CMD`, and leave `LAYERLINE_WATCH` on
-- source: the watcher: /proc/self/task/TID/stat and wchan (futex), sys._current_frames()
SELECT
    piece_no, 'off' AS pool,
    entity_type, entity_id,
    floor(off_left * (lock_looks / asleep))::BIGINT                                 AS lost_ns,
    -- As uncertain as what was taken for what held its holder back (behind_holder.sql). A thread that gave its CPU up only
    -- once slept only once: where one look saw it, there it was all the time.
    CASE WHEN voluntary_switches = 1 AND lock_looks = asleep THEN off_left_low
         ELSE greatest(0, least(off_left_low, (lock_looks - 2) * every_ns)) END::BIGINT  AS low_ns,
    floor(least(off_left_high, off_left_high * ((lock_looks + 2) / asleep)))::BIGINT     AS high_ns,
    format('it was seen waiting for a lock in {} of {} looks, in {}{}', lock_looks, looks, lock_place,
           coalesce('; held in ' || lock_held_by, '')) AS because,
    lock_place AS place
FROM piece JOIN left_over USING (piece_no) JOIN sampled USING (piece_no)
WHERE seen_at_lock(lock_looks, asleep, voluntary_switches) AND off_left > 0 AND NOT is_dependency AND NOT is_call
