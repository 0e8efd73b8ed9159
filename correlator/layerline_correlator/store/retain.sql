-- What is older than is to be kept. Series and resources stay for as long as anything refers to them (unused.py):
-- names of the dead are asked for.
-- An incident goes when it ended before that, with its troubles and whatever became part of it; an open one stays.
DELETE FROM hot_span WHERE start_ns < $before_ns;
DELETE FROM hot_point WHERE time_ns  < $before_ns;
DELETE FROM event   WHERE time_ns  < $before_ns;
DELETE FROM hot_log WHERE time_ns  < $before_ns;
DELETE FROM request WHERE start_ns < $before_ns;
DELETE FROM part    WHERE start_ns < $before_ns;
DELETE FROM blind_spot WHERE spot NOT IN (SELECT unnest(blind_spots) FROM request);
DELETE FROM stay    WHERE start_ns < $before_ns;
DELETE FROM refused WHERE start_ns < $before_ns;
DELETE FROM failed  WHERE to_ns    < $before_ns;
DELETE FROM exceeded WHERE last_ns < $before_ns;
DELETE FROM failure WHERE start_ns < $before_ns;
DELETE FROM hit_by_call WHERE start_ns < $before_ns;
DELETE FROM point_minute   WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM span_minute    WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM edge_minute    WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM request_minute WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM part_minute    WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM stay_minute    WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM blind_minute   WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM point_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM span_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM edge_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM request_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM part_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM stay_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM blind_quarter WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM summed_quarter WHERE quarter < $before_ns // 60_000_000_000;
DELETE FROM stale_minute   WHERE minute < $before_ns // 60_000_000_000;
DELETE FROM incident WHERE end_ns  < $before_ns AND merged_into IS NULL;
DELETE FROM incident WHERE merged_into NOT IN (SELECT incident FROM incident);
DELETE FROM trouble WHERE end_ns   < $before_ns AND incident NOT IN (SELECT incident FROM incident);
