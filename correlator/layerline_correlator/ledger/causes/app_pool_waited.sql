-- title: waited for a free connection or thread of a pool
-- layer: app
-- order: 730
-- reads: piece left_over sampled full_pool full_count
-- where: queued_ns > 0 AND pool_wait_ns > 0 OR samples IS NOT NULL OR inferred
-- needs: layerline.account, layerline.samples
-- means: All connections or threads of a pool were in use; it waited for one to come back. Or its process had no file descriptor left, or its container no room for a further thread.
-- mistaken for: A slow dependency (dependency.slow): there the connection is had, and the answer is waited for. Any other lock (app.lock_waited).
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: See who keeps them so long; then make the pool (or the limit) larger, if the other side can take it.
-- enable: start the service with `layerline run -- CMD`, and leave `LAYERLINE_WATCH` on
-- source: time from submit until a thread took the work; the watcher, for pools of connections; without our account `db.client.connection.count`, `.max` and `.pending_requests`, `process.unix.file_descriptor.count` and `.limit`, pids.current and pids.max
SELECT * FROM (
    WITH waits AS (
        SELECT piece_no, 'queued' AS pool, queued_ns AS lost_ns, queued_ns AS low_ns, queued_ns AS high_ns,
               format('“{}” waited {} for a free thread of its pool', name, '{lost}') AS because, NULL AS place
        FROM piece WHERE queued_ns > 0 AND pool_wait_ns > 0
        UNION ALL
        SELECT piece_no, 'off', floor(off_left * (pool_looks / asleep))::BIGINT,
               greatest(0, least(off_left, (pool_looks - 2) * every_ns))::BIGINT,
               floor(least(off_left, off_left * ((pool_looks + 2) / asleep)))::BIGINT,
               format('it was seen waiting for a pool in {} of {} looks, in {}', pool_looks, looks, pool_place),
               pool_place
        FROM piece JOIN left_over USING (piece_no) JOIN sampled USING (piece_no)
        WHERE pool_looks >= 2 AND off_left > 0
    )
    SELECT
        piece_no, pool,
        entity_type, entity_id,
        lost_ns, low_ns, high_ns, because, place
    FROM waits JOIN piece USING (piece_no)
)
UNION ALL BY NAME
-- only with: full_pool
-- Without our account: a pool of its process had no connection left then. Whether this request wanted one is not known.
SELECT
    piece_no, 'off' AS pool, entity_type, entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('{} of its pool {} were in use{}; for {} of “{}” nothing was computed',
           coalesce(format('all {:.0f} connections', connections), 'the connections'), pool_name,
           coalesce(format(', and {:.0f} requests waited for one', pending), ''), '{lost}', name) AS because
FROM piece JOIN left_over USING (piece_no) JOIN full_pool USING (piece_no)
WHERE piece.inferred AND off_left >= ms_of(5)
UNION ALL BY NAME
-- only with: full_count
-- As uncertain: whether this request wanted a further descriptor, or thread, is not known.
SELECT
    piece_no, 'off' AS pool, entity_type, entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('{:.0f} of the {:.0f} {}; for {} of “{}” nothing was computed', used, most,
           CASE WHEN what = 'descriptors' THEN 'file descriptors that its process may have were open'
                ELSE 'processes and threads that its container may have were there' END, '{lost}', name) AS because
FROM piece JOIN left_over USING (piece_no) JOIN full_count USING (piece_no)
WHERE piece.inferred AND off_left >= ms_of(5)
