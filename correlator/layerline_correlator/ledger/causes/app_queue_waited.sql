-- title: waited for a free worker
-- layer: app
-- order: 740
-- reads: piece
-- where: queued_ns > 0 AND accept_wait_ns > 0
-- needs: layerline.accept_wait_ns
-- means: The request had arrived, but no worker of the service took it: all were busy with others.
-- mistaken for: The network (network.transit_slow): there it had not arrived yet. A slow handler: there the worker had begun.
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: More workers or threads, if what they wait for can take it; or make the requests before it shorter.
-- enable: start the service with `layerline run -- CMD` on gunicorn, uvicorn or Werkzeug, over TCP
-- source: TCP_INFO tcpi_last_data_recv of the accepted socket
SELECT
    piece_no, 'queued' AS pool,
    entity_type, entity_id,
    queued_ns AS lost_ns,
    floor(least(queued_ns, coalesce(accept_busy_ns, 0) * head_share))::BIGINT AS low_ns,
    queued_ns AS high_ns,
    format(
        'it lay in the kernel for {} before its handler began; '
        || 'for {:.0f} ms of them its worker was busy with another request',
           '{lost}', coalesce(accept_busy_ns, 0) / 1e6) AS because
FROM piece
WHERE queued_ns > 0 AND accept_wait_ns > 0
