-- The spans of each sender and the calls between services, summed up per quarter of an hour, of their minutes.
-- In: $first, $last (minutes), $quarters (the first minutes of those that are wanted, all in between).
INSERT INTO span_quarter BY NAME
SELECT
    quarter_of(minute) AS minute, resource, account, sum(spans)::BIGINT AS spans, min(first_ns) AS first_ns,
    max(last_ns) AS last_ns, max(threshold) AS threshold, max(address) AS address, sum(cpu_ns)::BIGINT AS cpu_ns,
    sum(blocks_read)::BIGINT AS blocks_read, max(throttled_ns) AS throttled_ns
FROM span_minute
WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
GROUP BY quarter_of(minute), resource, account ORDER BY 1, 2;

INSERT INTO edge_quarter BY NAME
WITH
each_minute AS (
    SELECT *, row(quarter_of(minute), caller, callee_type, callee) AS edge FROM edge_minute
    WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
),
by_class AS (
    SELECT edge, class, sum(number)::UBIGINT AS number
    FROM (
        SELECT edge, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number FROM each_minute
    ) GROUP BY ALL
),
added AS (
    SELECT edge, map_from_entries(list({'k': class, 'v': number} ORDER BY class)) AS durations
    FROM by_class GROUP BY edge
)
SELECT
    quarter_of(minute) AS minute, caller, callee_type, callee, sum(calls)::BIGINT AS calls,
    sum(errors)::BIGINT AS errors, sum(weight) AS weight, sum(duration_ns) AS duration_ns,
    sum(answered)::BIGINT AS answered, sum(gap_ns) AS gap_ns, any_value(added.durations) AS durations
FROM each_minute JOIN added USING (edge)
GROUP BY quarter_of(minute), caller, callee_type, callee ORDER BY 1, calls DESC;
