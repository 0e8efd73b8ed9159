-- title: another task held the event loop
-- layer: app
-- order: 720
-- reads: piece
-- where: coalesce(loop_wait_ns, 0) + coalesce(loop_queued_ns, 0) > 0
-- needs: layerline.account
-- means: The task was ready to go on, or its request had arrived, while another task computed or waited without giving the event loop back.
-- mistaken for: A slow dependency (dependency.slow): the answer may have been there all the while. A busy neighbour: there the loop's thread stands ready without a CPU.
-- fits: new code: the time went into this service's own code
-- fits: container started: it runs the code that the time went into
-- try: The place named ran on the event loop: move it to a thread (`asyncio.to_thread`) or a process, or give the loop back in between.
-- enable: start the service with `layerline run -- CMD`
-- source: steps of asyncio tasks by the monotonic clock; TCP_INFO tcpi_last_data_recv
SELECT
    piece_no, pool, entity_type, entity_id, lost_ns, low_ns, high_ns, because, place
FROM (
    SELECT
        piece_no, unnest(['off', 'queued']) AS pool,
    entity_type, entity_id,
        unnest([floor(loop_wait_ns * share), floor(loop_queued_ns * head_share)])::BIGINT     AS lost_ns,
        unnest([floor(loop_wait_low_ns * share), floor(loop_queued_ns * head_share)])::BIGINT AS low_ns,
        unnest([loop_wait_ns, loop_queued_ns])                                                AS high_ns,
        format('its task could not go on for up to {:.0f} ms, because {} held the event loop',
               (coalesce(loop_wait_ns, 0) + coalesce(loop_queued_ns, 0)) / 1e6, coalesce(loop_held_by, 'another task')
               ) AS because,
        loop_held_by AS place
    FROM piece WHERE coalesce(loop_wait_ns, 0) + coalesce(loop_queued_ns, 0) > 0
)
WHERE lost_ns > 0
