-- What was read of the containers asked for, minute by minute (summaries/stretches.sql). The minutes in which the window
-- begins and in which a container began or ended are read value by value.

-- How much a counter grew, or (`is_level`) the mean of the levels that held, over each stretch of time.
-- makes: wanted_reading
-- reads: line_stretch, heard_line
-- only with: line_stretch
CREATE OR REPLACE TEMP TABLE wanted_reading AS
WITH
heard_stretch AS (
    SELECT
        line, entity_id AS container_id, signal, attributes, is_part AND NOT is_level AS adds_up, is_level, from_ns,
        line_stretch.to_ns, amount
    FROM line_stretch JOIN heard_line USING (line)
)
SELECT * EXCLUDE (adds_up) FROM heard_stretch WHERE NOT adds_up
UNION ALL
-- The shares of all CPUs, of all modes.
SELECT min(line), container_id, signal, attributes, FALSE, from_ns, to_ns, sum(amount)
FROM heard_stretch WHERE adds_up
GROUP BY container_id, signal, attributes, from_ns, to_ns;
