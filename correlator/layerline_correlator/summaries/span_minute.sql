-- The spans of each sender, summed up per minute.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted).
INSERT INTO span_minute BY NAME
SELECT
    minute_of(start_ns) AS minute, resource, measured_by(account, account_reason, thread_cpu_ns) AS account,
    count(*) AS spans, min(start_ns) AS first_ns, max(end_ns) AS last_ns,
    max(attributes['layerline.sampling.threshold']) AS threshold,
    local_address(any_value(attributes) FILTER (is_server(kind))) AS address,
    in_bounds(sum(in_bounds(thread_cpu_ns)))::BIGINT AS cpu_ns,
    in_bounds(sum(in_bounds(thread_blocks_read)))::BIGINT AS blocks_read,
    max(container_throttled_ns) AS throttled_ns
FROM span
WHERE start_ns >= $from_ns AND start_ns < $to_ns AND minute_of(start_ns) IN (SELECT unnest($minutes::BIGINT[]))
GROUP BY 1, 2, 3 ORDER BY 1, 2;
