-- What is older than is to be kept. Series and resources stay: they are few, and names of the dead are asked for.
DELETE FROM span    WHERE start_ns < $before_ns;
DELETE FROM point   WHERE time_ns  < $before_ns;
DELETE FROM event   WHERE time_ns  < $before_ns;
DELETE FROM request WHERE start_ns < $before_ns;
DELETE FROM part    WHERE start_ns < $before_ns;
DELETE FROM blind   WHERE start_ns < $before_ns;
DELETE FROM stay    WHERE start_ns < $before_ns;
