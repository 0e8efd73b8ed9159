-- Before any cause has taken, all of each pool is left: exactly where the thread was measured, between bounds where the pool was
-- worked out from readings.

-- makes: left_0
-- reads: piece
CREATE OR REPLACE TEMP TABLE left_0 AS
SELECT
    piece_no,
    cpu_ns AS cpu_left, wait_ns AS wait_left, off_ns AS off_left, queued_ns AS queued_left,
    coalesce(cpu_low, cpu_ns)   AS cpu_left_low,  coalesce(cpu_high, cpu_ns)   AS cpu_left_high,
    coalesce(wait_low, wait_ns) AS wait_left_low, coalesce(wait_high, wait_ns) AS wait_left_high,
    CASE WHEN inferred THEN greatest(0, length_ns - cpu_high - wait_high) ELSE off_ns END AS off_left_low,
    CASE WHEN inferred THEN greatest(0, length_ns - cpu_low - wait_low) ELSE off_ns END   AS off_left_high,
    queued_ns AS queued_left_low, queued_ns AS queued_left_high
FROM piece;
