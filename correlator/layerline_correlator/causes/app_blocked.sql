-- title: its own code slept or waited
-- layer: app
-- order: 910
-- prepare: waiting_for_blocks.sql
-- needs: layerline.account
-- means: The thread gave up its CPU of its own accord and slept: in a sleep, on a lock, or on a socket that no span describes.
-- mistaken for: Waiting for a disk, when the thread moved blocks and nothing tells how long that took: then it stays unexplained. Waiting for the interpreter lock, which wakes up every 5 ms.
-- try: Look for sleeps, locks and calls without instrumentation in this span's code.
-- enable: start the service with `layerline run -- CMD`
-- source: getrusage(RUSAGE_THREAD) ru_nvcsw; off-CPU time of the thread
SELECT
    piece.piece_no, 'off' AS pool,
    CASE WHEN piece.container_id IS NULL THEN 'process' ELSE 'container' END AS entity_type,
    coalesce(piece.container_id, instance)                                   AS entity_id,
    off_left AS lost_ns,
    least(off_left, greatest(0, piece.off_ns - coalesce(blocks.high_ns, 0)))::BIGINT AS low_ns,
    greatest(off_left, piece.off_ns - coalesce(blocks.low_ns, 0))::BIGINT            AS high_ns,
    format('the thread slept for {:.0f} ms in span “{}” ({} times)', off_left / 1e6, name, voluntary_switches) AS because
FROM piece LEFT JOIN blocks USING (piece_no)
WHERE off_left > 0 AND NOT is_dependency AND NOT is_call
  AND coalesce(blocks.known, true)
  AND (voluntary_switches BETWEEN 1 AND 3 OR (voluntary_switches > 0 AND piece.off_ns / voluntary_switches >= 10_000_000))
