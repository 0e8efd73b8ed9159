-- title: the machine's network was full
-- layer: host
-- order: 840
-- reads: piece left_over loaded_network vm_limit
-- with any of: loaded_network vm_limit
-- where: (is_answered OR is_dependency) AND off_ns >= ms_of(1)
-- applies: call
-- needs: system.network.io
-- means: The machine's network interface moved as much as it can; what this call sent or received stood in its queue.
-- mistaken for: A slow link elsewhere (network.transit_slow), a slow dependency (dependency.slow): there this machine's interface has room.
-- fits: neighbour started: it used {share} of what the slow requests waited for
-- fits: new code: new code may use more of the machine
-- try: Find who sends so much; a faster interface; limits on bulk transfers.
-- enable: run `layerline agent` on the machine
-- source: /proc/net/dev; /sys/class/net/*/speed; `ethtool -S` of the ENA driver (bw_in_allowance_exceeded …)
-- An interface that moved at least nine tenths of what it can, or that dropped packets, while the call was under way.
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, host AS entity_id,
    off_left AS lost_ns,
    CASE WHEN is_answered THEN (0.5 * off_left)::BIGINT ELSE 0 END AS low_ns,
    off_left_high AS high_ns,
    TRUE AS inferred,
    format('the machine moved {:.0f} % of what its network interface can, '
           || 'while it waited {:.0f} ms for the other side',
           100 * load, off_left / 1e6) AS because
FROM piece JOIN left_over USING (piece_no) JOIN loaded_network USING (piece_no)
WHERE (is_answered OR is_dependency) AND off_left >= ms_of(1)
UNION ALL BY NAME
-- only with: vm_limit
-- The provider held up packets of this machine, or of the one at the other end: perhaps none of this call's.
SELECT
    piece_no, 'off' AS pool, 'host' AS entity_type, vm_limit.host AS entity_id,
    least(full_ns, off_left) AS lost_ns, 0 AS low_ns, least(full_ns, off_left_high) AS high_ns, TRUE AS inferred,
    format('{}, while “{}” waited {} for the other side', said, name, '{lost}') AS because
FROM piece
JOIN left_over USING (piece_no)
JOIN (
    FROM vm_limit WHERE what = 'network' QUALIFY row_number() OVER (PARTITION BY piece_no ORDER BY peer) = 1
) AS vm_limit USING (piece_no)
WHERE (is_answered OR is_dependency) AND off_left >= ms_of(1)
