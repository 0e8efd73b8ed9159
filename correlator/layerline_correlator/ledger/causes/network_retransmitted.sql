-- title: the network lost packets
-- layer: network
-- order: 850
-- reads: piece left_over resent
-- only with: resent
-- where: (is_answered OR is_dependency) AND off_ns >= ms_of(50)
-- applies: call, container | called container
-- needs: container.network.tcp.retransmits
-- means: Packets between the two were lost, and TCP sent them again after a timeout of 200 ms or more.
-- mistaken for: A slow network (network.transit_slow): there nothing is sent twice. A slow dependency (dependency.slow): there the answer is not there yet.
-- try: Look for drops on both ends (`ip -s link`, conntrack full, MTU, an overloaded virtual switch) and in between.
-- enable: run `layerline agent` on the machine
-- source: /proc/PID/net/snmp Tcp RetransSegs of both containers, less /proc/PID/net/netstat TcpExt TCPDSACKRecvSegs
-- A lost segment is sent again after 200 ms at the earliest (RTO), then after twice as long, and so on. Between two spans
-- of ours the whole gap is the network's; where only this side is seen, no more than so many timeouts can take.
WITH calls AS (
    SELECT piece.*, off_left, off_left_high, segments, at_callee, at_caller,
           CASE WHEN is_answered THEN off_left ELSE least(off_left, 210_000_000 * (2 ** least(segments, 12) - 1)) END
               AS claim_ns
    FROM piece JOIN left_over USING (piece_no) JOIN resent USING (piece_no)
    WHERE (is_answered OR is_dependency) AND off_left >= 50_000_000
)
SELECT
    piece_no, 'off' AS pool, CASE WHEN container_id IS NULL THEN 'host' ELSE 'container' END AS entity_type,
    coalesce(container_id, host) AS entity_id,
    floor(claim_ns)::BIGINT AS lost_ns,
    -- Enough were sent again to explain a gap between two of our spans, at one timeout each; else one, at least.
    CASE WHEN is_answered AND segments >= off_left / 210_000_000 THEN 0.8 * off_left
         ELSE least(claim_ns, 190_000_000) END::BIGINT AS low_ns,
    off_left_high AS high_ns,
    format('{} TCP segment(s) were sent again at {} meanwhile, and nobody worked for {:.0f} ms', segments,
           CASE WHEN at_callee AND at_caller THEN 'both ends' WHEN at_callee THEN 'the other end' ELSE 'this end' END,
           off_left / 1e6) AS because
FROM calls
