-- Visits on whose machine the hypervisor took time from all meanwhile.

-- makes: stolen
-- reads: seen
-- only with: seen
-- only where: seen: piece_no IS NULL AND signal = 'system.cpu.time' AND cpu_mode = 'steal' AND high > 0
CREATE OR REPLACE TEMP TABLE stolen AS
SELECT request_no, visit_no, sum(estimate) AS stolen_ns, sum(high) AS stolen_high_ns
FROM seen
WHERE piece_no IS NULL AND signal = 'system.cpu.time' AND cpu_mode = 'steal' AND covered_ns >= 0.9 * stretch_ns
GROUP BY ALL HAVING stolen_high_ns > 0;
