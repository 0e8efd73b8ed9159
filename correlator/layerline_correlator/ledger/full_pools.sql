-- Pools of connections that had none left, as the process that has the pool tells (db.client.connection.…).

-- What is reported of the pools of the processes with such pieces.
-- makes: pool_gauge
-- reads: dark_piece
-- only with: dark_piece
CREATE OR REPLACE TEMP TABLE pool_gauge AS
SELECT
    series.series, resource.instance, signal,
    coalesce(series.attributes['db.client.connection.pool.name'], '') AS pool_name
FROM series
JOIN resource ON resource.resource = series.resource
WHERE (signal IN ('db.client.connection.max', 'db.client.connection.pending_requests')
       OR (signal = 'db.client.connection.count' AND series.attributes['db.client.connection.state'] = 'used'))
  AND resource.instance IN (SELECT instance FROM dark_piece);

-- For how long of each piece that was not measured a pool of its process was full, or others waited for a connection of it. What a
-- gauge says at a moment is taken for the time since the value before.
-- makes: full_pool
-- reads: stretch, dark_piece, pool_gauge
-- only with: pool_gauge
CREATE OR REPLACE TEMP TABLE full_pool AS
WITH
gauges AS (
    SELECT
        pool_gauge.instance, signal, pool_gauge.pool_name, time_ns, value,
        greatest(
            coalesce(lag(time_ns) OVER (PARTITION BY point.series ORDER BY time_ns), 0), time_ns - longest_interval_ns()
        ) AS from_ns
    FROM pool_gauge
    JOIN point ON point.series = pool_gauge.series
    WHERE time_ns BETWEEN $since_ns AND $until_ns
),
largest AS (
    SELECT instance, pool_name, max(value) AS connections FROM gauges
    WHERE signal = 'db.client.connection.max' GROUP BY ALL
),
exhausted AS (
    SELECT gauges.instance, gauges.pool_name, from_ns, time_ns AS to_ns, connections, value, signal
    FROM gauges LEFT JOIN largest ON largest.instance = gauges.instance AND largest.pool_name = gauges.pool_name
    WHERE (signal = 'db.client.connection.count' AND value >= connections AND connections > 0)
       OR (signal = 'db.client.connection.pending_requests' AND value > 0)
),
within_stretch AS (
    SELECT
        stretch_no, dark_piece.piece_no, exhausted.pool_name, connections,
        max(value) FILTER (signal = 'db.client.connection.pending_requests') AS pending,
        max(overlap_ns(exhausted.from_ns, exhausted.to_ns, stretch.from_ns, stretch.to_ns)) AS full_ns
    FROM stretch
    JOIN dark_piece ON dark_piece.piece_no = stretch.piece_no AND NOT stretch.peer AND NOT is_client(dark_piece.kind)
    JOIN exhausted ON exhausted.instance = dark_piece.instance
        AND exhausted.from_ns < stretch.to_ns AND exhausted.to_ns > stretch.from_ns
    GROUP BY ALL
),
longest_full AS (
    FROM within_stretch QUALIFY row_number() OVER (PARTITION BY stretch_no ORDER BY full_ns DESC, pool_name) = 1
)
SELECT
    piece_no, sum(full_ns)::BIGINT AS full_ns, any_value(pool_name) AS pool_name,
    max(connections) AS connections, max(pending) AS pending
FROM longest_full
GROUP BY piece_no;
