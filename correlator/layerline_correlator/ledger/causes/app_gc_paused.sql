-- title: the garbage collector ran
-- layer: app
-- order: 790
-- reads: piece
-- where: gc_ns > 0
-- needs: layerline.account
-- means: The thread was on a CPU, but collecting garbage instead of running the code of this span.
-- mistaken for: Slow code (app.cpu_busy): a profile shows the collector only where something was allocated.
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: Fewer objects that live long; `gc.freeze()` after start; a higher `gc.set_threshold`.
-- enable: start the service with `layerline run -- CMD`
-- source: gc.callbacks, thread CPU time between start and stop of a collection
SELECT
    piece_no, 'cpu' AS pool,
    entity_type, entity_id,
    floor(least(cpu_ns, gc_ns * share))::BIGINT AS lost_ns,
    floor(least(cpu_ns, gc_ns * share))::BIGINT AS low_ns,
    floor(least(cpu_ns, gc_ns))::BIGINT         AS high_ns,
    format('the collector ran for {:.0f} ms in span “{}”', gc_ns / 1e6, name) AS because
FROM piece
WHERE cpu_ns > 0 AND gc_ns > 0
