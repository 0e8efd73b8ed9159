-- What was read of the containers asked for, value by value. The parameters are those of measured.sql.

-- How much a counter grew, or (`is_level`) which level held, over each stretch of time.
-- makes: wanted_reading
-- reads: wanted_series
-- only with: wanted_series
CREATE OR REPLACE TEMP TABLE wanted_reading AS
SELECT line, entity_id AS container_id, signal, attributes, FALSE AS is_level, from_ns, to_ns, rise AS amount
FROM readings_of((SELECT list(series) FROM wanted_series WHERE kind <> 'gauge'),
                 $from_ns - longest_interval_ns(), $to_ns - 1)
UNION ALL
SELECT line, entity_id, signal, attributes, TRUE, from_ns, to_ns, value
FROM levels_of((SELECT list(series) FROM wanted_series WHERE kind = 'gauge'),
               $from_ns - longest_interval_ns(), $to_ns - 1);
