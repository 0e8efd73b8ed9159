-- In which other minutes the calls began that spans of these minutes answer: their edges are summed up anew with these.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted).
WITH
own AS (
    SELECT trace_id, span_id, parent_span_id FROM span
    WHERE start_ns >= $from_ns AND start_ns < $to_ns AND minute_of(start_ns) IN (SELECT unnest($minutes::BIGINT[]))
),
away AS (
    SELECT trace_id, parent_span_id AS span_id FROM own
    ANTI JOIN own AS parent ON parent.trace_id = own.trace_id AND parent.span_id = own.parent_span_id
    WHERE parent_span_id IS NOT NULL
)
SELECT DISTINCT minute_of(start_ns) AS minute
FROM span SEMI JOIN away ON away.trace_id = span.trace_id AND away.span_id = span.span_id
WHERE start_ns >= $from_ns - answers_within_ns() AND start_ns < $to_ns + answers_within_ns() AND is_client(kind)
  AND minute_of(start_ns) NOT IN (SELECT unnest($minutes::BIGINT[]));
