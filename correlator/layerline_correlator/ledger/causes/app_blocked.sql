-- title: its own code slept or waited
-- layer: app
-- order: 910
-- reads: piece left_over blocks sampled
-- where: off_ns > 0 AND NOT is_dependency AND NOT is_call AND (samples IS NOT NULL OR voluntary_switches > 0)
-- needs: layerline.account
-- means: The thread gave up its CPU of its own accord and slept: in a sleep, on a lock, or on a socket that no span describes. Of an asyncio task: it awaited something of that kind.
-- mistaken for: Waiting for a disk, when the thread moved blocks and nothing tells how long that took: then it stays unexplained. Waiting for the interpreter lock, which wakes up every 5 ms.
-- at fault: one operation's code
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- suspected in: any place
-- try: Look for sleeps, locks and calls without instrumentation in this span's code.
-- enable: start the service with `layerline run -- CMD`
-- source: getrusage(RUSAGE_THREAD) ru_nvcsw; off-CPU time of the thread; of a task, the coroutines that await each other (cr_await)
WITH asleep AS (
    -- What it waited for blocks is not sleep, whoever is to blame for it and even where nobody is.
    SELECT
        piece.*,
        least(off_left, piece.off_ns - coalesce(blocks.lost_ns, 0)) AS asleep_ns,
        coalesce(blocks.low_ns, 0) AS blocks_low_ns, coalesce(blocks.high_ns, 0) AS blocks_high_ns
    FROM piece JOIN left_over USING (piece_no) LEFT JOIN blocks ON blocks.piece_no = piece.piece_no
    WHERE NOT is_dependency AND NOT is_call AND coalesce(blocks.known, TRUE)
)
SELECT
    piece_no, 'off' AS pool,
    entity_type, entity_id,
    asleep_ns AS lost_ns,
    CASE WHEN blocks_high_ns > 0 THEN least(asleep_ns, greatest(0, off_ns - blocks_high_ns))::BIGINT END AS low_ns,
    greatest(asleep_ns, off_ns - blocks_low_ns)::BIGINT            AS high_ns,
    CASE WHEN starts_with(asleep_wait, 'await:')
         THEN format('its task was suspended for {} in span “{}”; it awaited {}', '{lost}', name, asleep_wait[7:])
         ELSE format('the thread slept for {} in span “{}” ({} times){}', '{lost}', name, voluntary_switches,
                     coalesce(format('; the kernel says: {}', nullif(asleep_wait, '-')), '')) END AS because,
    asleep_place AS place
FROM asleep LEFT JOIN sampled USING (piece_no)
WHERE asleep_ns > 0
  AND (
      sampled.asleep >= 2
      OR voluntary_switches BETWEEN 1 AND 3
      OR (voluntary_switches > 0 AND off_ns / voluntary_switches >= 10_000_000)
  )
