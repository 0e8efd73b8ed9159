-- title: the machine's network was full
-- layer: host
-- order: 840
-- reads: piece left_over seen vm_limit
-- with any of: seen vm_limit
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
SELECT * FROM (
    WITH loaded AS (
        SELECT seen.piece_no, max(estimate / speed.bytes_per_s * 1e9 / stretch_ns) AS load, max(dropped) AS dropped
        FROM seen
        JOIN piece USING (piece_no)
        JOIN (
            SELECT host, series.attributes['network.interface.name'] AS interface,
                   arg_max(value, time_ns) AS bytes_per_s
            FROM series JOIN point ON point.series = series.series
            WHERE signal = 'system.network.speed' AND value > 0 GROUP BY ALL
        ) AS speed ON speed.host = piece.host AND speed.interface = seen.interface
        LEFT JOIN (
            SELECT piece_no, interface, sum(estimate) AS dropped FROM seen
            WHERE piece_no IS NOT NULL AND signal = 'system.network.dropped' GROUP BY ALL
        ) AS drops ON drops.piece_no = seen.piece_no AND drops.interface = seen.interface
        WHERE seen.piece_no IS NOT NULL AND signal = 'system.network.io' AND seen.covered_ns >= 0.9 * stretch_ns
        GROUP BY ALL
    )
    SELECT
        piece_no, 'off' AS pool, 'host' AS entity_type, host AS entity_id,
        off_left AS lost_ns,
        CASE WHEN is_answered THEN (0.5 * off_left)::BIGINT ELSE 0 END AS low_ns,
        off_left_high AS high_ns,
        TRUE AS inferred,
        format('the machine moved {:.0f} % of what its network interface can, '
               || 'while it waited {:.0f} ms for the other side',
               100 * load, off_left / 1e6) AS because
    FROM piece JOIN left_over USING (piece_no) JOIN loaded USING (piece_no)
    WHERE load >= 0.9 AND (is_answered OR is_dependency) AND off_left >= 1_000_000
)
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
