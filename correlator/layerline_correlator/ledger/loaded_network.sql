-- Calls during which a network interface of the machine moved at least nine tenths of what it can.

-- makes: loaded_network
-- reads: seen, piece
-- only with: seen
-- only where: seen: piece_no IS NOT NULL AND signal = 'system.network.io' AND covered_ns >= 0.9 * stretch_ns
CREATE OR REPLACE TEMP TABLE loaded_network AS
SELECT seen.piece_no, max(estimate / speed.bytes_per_s * 1e9 / stretch_ns) AS load
FROM seen
JOIN piece USING (piece_no)
JOIN (
    SELECT host, series.attributes['network.interface.name'] AS interface,
           arg_max(value, time_ns) AS bytes_per_s
    FROM series JOIN point ON point.series = series.series
    WHERE signal = 'system.network.speed' AND value > 0 GROUP BY ALL
) AS speed ON speed.host = piece.host AND speed.interface = seen.interface
WHERE seen.piece_no IS NOT NULL AND signal = 'system.network.io' AND seen.covered_ns >= 0.9 * stretch_ns
GROUP BY ALL HAVING load >= 0.9;
