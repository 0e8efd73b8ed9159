-- The usual duration of operations now, by the rows of their requests (facts/usual.sql says what is usual): whether their
-- ledgers have been worked out does not matter here.
-- In: $services, $operations (lists of one length), $now_ns. Out: rows of (service, operation, usual_ns).
WITH
wanted AS (SELECT unnest($services::VARCHAR[]) AS service, unnest($operations::VARCHAR[]) AS operation),
latest AS (
    SELECT service, operation, end_ns - start_ns AS duration_ns, span_id
    FROM ordinary_request SEMI JOIN wanted USING (service, operation)
    WHERE fair AND planned > 0 AND end_ns <= $now_ns AND end_ns > $now_ns - seconds_long(3600)
    QUALIFY row_number() OVER (PARTITION BY service, operation ORDER BY end_ns DESC, span_id DESC) <= 500
),
ranked AS (
    SELECT
        *, row_number() OVER (PARTITION BY service, operation ORDER BY duration_ns, span_id) AS rank,
        count(*) OVER (PARTITION BY service, operation) AS together
    FROM latest
)
SELECT service, operation, round(avg(duration_ns))::BIGINT AS usual_ns
FROM ranked
WHERE together >= 20 AND rank > floor(0.1 * together) AND rank <= ceil(0.5 * together)
GROUP BY ALL;
