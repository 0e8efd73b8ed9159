-- Requests and all that hangs below them, summed up per quarter of an hour, of their minutes.
-- In: $first, $last (minutes), $quarters (the first minutes of those that are wanted, all in between).
INSERT INTO request_quarter BY NAME
WITH
each_minute AS (
    SELECT *, row(quarter_of(minute), service, operation, root, resource, container_id, host) AS sender
    FROM request_minute
    WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
),
by_class AS (
    SELECT sender, class, sum(number)::UBIGINT AS number
    FROM (
        SELECT sender, unnest(map_keys(durations)) AS class, unnest(map_values(durations)) AS number FROM each_minute
    ) GROUP BY ALL
),
added AS (
    SELECT sender, map_from_entries(list({'k': class, 'v': number} ORDER BY class)) AS durations
    FROM by_class GROUP BY sender
)
SELECT
    quarter_of(minute) AS minute, service, operation, root, resource, container_id, host,
    sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, sum(slow)::BIGINT AS slow,
    sum(orphans)::BIGINT AS orphans, sum(left_out)::BIGINT AS left_out, sum(weight) AS weight,
    min(first_ns) AS first_ns, max(last_ns) AS last_ns, sum(duration_ns) AS duration_ns,
    sum(unexplained_ns) AS unexplained_ns, any_value(added.durations) AS durations
FROM each_minute JOIN added USING (sender)
GROUP BY quarter_of(minute), service, operation, root, resource, container_id, host ORDER BY 1, 2, 3;

INSERT INTO part_quarter BY NAME
SELECT
    quarter_of(minute) AS minute, quarter_of(passed) AS passed, service, operation, root, resource, container_id, host,
    cause, entity_type, entity_id, sum(requests)::BIGINT AS requests, sum(weight) AS weight, sum(lost_ns) AS lost_ns,
    sum(low_ns) AS low_ns, sum(high_ns) AS high_ns
FROM part_minute
WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
GROUP BY
    quarter_of(minute), quarter_of(passed), service, operation, root, resource, container_id, host, cause, entity_type,
    entity_id
ORDER BY 1, 3, 4;

INSERT INTO stay_quarter BY NAME
SELECT
    quarter_of(minute) AS minute, service, operation, root, resource, container_id, host, at_service, at_container_id,
    at_host, sum(own_ns) AS own_ns, sum(open_ns) AS open_ns, sum(ready_ns) AS ready_ns
FROM stay_minute
WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
GROUP BY
    quarter_of(minute), service, operation, root, resource, container_id, host, at_service, at_container_id, at_host
ORDER BY 1, 2, 3;

INSERT INTO blind_quarter BY NAME
SELECT
    quarter_of(minute) AS minute, request_service, cause, anywhere, service, facts, why, foreign_readings, host,
    agent_reads, sum(requests) AS requests
FROM blind_minute
WHERE minute BETWEEN $first AND $last AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
GROUP BY
    quarter_of(minute), request_service, cause, anywhere, service, facts, why, foreign_readings, host, agent_reads
ORDER BY 1, 2, 3;
