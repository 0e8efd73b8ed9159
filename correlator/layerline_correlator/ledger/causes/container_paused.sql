-- title: frozen by `docker pause`
-- layer: container
-- order: 30
-- reads: phase piece callee frozen
-- only with: frozen
-- applies: container | called container
-- needs: container events
-- means: Somebody paused the container: all its processes stood still until it was unpaused.
-- mistaken for: A CPU limit (container.cpu_throttled): there it stands still for parts of each period only. A lock (app.lock_waited): there its other threads go on.
-- fits: container stopped or started: it is what the slow requests waited for
-- fits: new code: a deployment replaces containers
-- try: Find out who pauses it: backups and snapshots do.
-- enable: run `layerline agent` on the machine
-- source: Docker events pause and unpause
WITH stood AS (
    SELECT piece_no, phase.pool, frozen.container_id,
           sum(
               least(phase.to_ns, coalesce(frozen.to_ns, phase.to_ns)) - greatest(phase.from_ns, frozen.from_ns)
           )::BIGINT AS stood_ns,
           sum((frozen.from_ns > phase.from_ns)::INT + coalesce(frozen.to_ns < phase.to_ns, FALSE)::INT) AS edges
    FROM phase
    JOIN piece USING (piece_no)
    LEFT JOIN callee ON callee.piece_no = phase.piece_no AND is_client(piece.kind)
    JOIN frozen ON frozen.container_id IN (piece.container_id, callee.container_id)
        AND frozen.from_ns < phase.to_ns AND coalesce(frozen.to_ns, phase.to_ns) > phase.from_ns
    GROUP BY ALL
)
-- The events are stamped up to some milliseconds after the deed.
SELECT
    piece_no, pool, 'container' AS entity_type, container_id AS entity_id,
    stood_ns AS lost_ns,
    greatest(0, stood_ns - 10_000_000 * edges)::BIGINT AS low_ns,
    (stood_ns + 20_000_000 * edges)::BIGINT AS high_ns,
    format('the container was paused for {:.0f} ms of it', stood_ns / 1e6) AS because
FROM stood
