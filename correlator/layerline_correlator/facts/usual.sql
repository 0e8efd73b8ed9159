-- The usual of requests: the mean ledger of those between the 10th and the 50th percentile of duration among the last
-- 500 (at least 20, at most an hour old) of the same service and operation that ended before each began. Time inside an
-- incident is left out, also of the hour: a request of an incident is compared with what was usual when it began.
--
-- Whose usual is wanted is handed in: wanted_usual(request_no, trace_id, span_id, service, operation, start_ns).
-- An operation's requests stand in one list in the order in which they ended; what a request is compared with is a slice
-- of it, so that thousands of usuals can be worked out at once.

-- Until when, and since when, requests count for the usual of each.
-- makes: compared_with
-- reads: wanted_usual
-- only with: wanted_usual
CREATE OR REPLACE TEMP TABLE compared_with AS
WITH
as_of AS (
    SELECT
        wanted_usual.request_no,
        wanted_usual.service,
        wanted_usual.operation,
        least(wanted_usual.start_ns, min(unusual.start_ns)) AS as_of_ns
    FROM wanted_usual
    LEFT JOIN unusual ON unusual.service = wanted_usual.service AND unusual.operation = wanted_usual.operation
        AND wanted_usual.start_ns >= unusual.start_ns AND wanted_usual.start_ns < unusual.end_ns
    GROUP BY wanted_usual.request_no, wanted_usual.service, wanted_usual.operation, wanted_usual.start_ns
)
SELECT as_of.*,
       as_of_ns
       - seconds_long(3600)
       - coalesce(sum(least(unusual.end_ns, as_of_ns) - unusual.start_ns), 0)::BIGINT AS since_ns
FROM as_of
LEFT JOIN unusual ON unusual.service = as_of.service AND unusual.operation = as_of.operation
    AND unusual.start_ns < as_of_ns AND unusual.end_ns > as_of_ns - seconds_long(3600)
GROUP BY as_of.request_no, as_of.service, as_of.operation, as_of_ns;

-- The requests that may count, numbered in the order in which they ended.
-- makes: recent_request
-- reads: compared_with
-- only with: compared_with
CREATE OR REPLACE TEMP TABLE recent_request AS
WITH
operations AS (
    SELECT service, operation, min(as_of_ns) AS first_ns, max(as_of_ns) AS last_ns, min(since_ns) AS since_ns
    FROM compared_with GROUP BY ALL
),
-- No more of each operation than the last 500 before the first that is wanted, and all since.
ended AS (
    SELECT request.*, operations.first_ns
    FROM ordinary_request AS request JOIN operations USING (service, operation)
    WHERE request.end_ns <= operations.last_ns AND request.end_ns > operations.since_ns
      AND request.start_ns <= operations.last_ns
      -- A fair sample stands for all of them: no slow request that has a ledger because it is slow.
      AND request.fair AND request.weight > 0
    QUALIFY request.end_ns > operations.first_ns
         OR row_number() OVER (
                PARTITION BY request.service, request.operation, request.end_ns > operations.first_ns
                ORDER BY request.end_ns DESC, request.span_id DESC) <= 500
)
SELECT
    service, operation, trace_id, span_id, start_ns, end_ns, end_ns - start_ns AS duration_ns,
    row_number() OVER (PARTITION BY service, operation ORDER BY end_ns, span_id) AS place
FROM ended;

-- The usual of each: usual_ns, members, and where its members stand in `recent_request`.
-- makes: usual
-- reads: compared_with, recent_request
-- only with: recent_request
CREATE OR REPLACE TEMP TABLE usual AS
WITH
lists AS (
    SELECT service, operation, list(duration_ns ORDER BY place) AS durations FROM recent_request GROUP BY ALL
),
ends AS (
    SELECT service, operation, end_ns, max(place) AS place FROM recent_request GROUP BY ALL
),
bounds AS (
    SELECT
        compared_with.request_no, compared_with.service, compared_with.operation, before.place AS last_place,
        greatest(before.place - 499, coalesce(too_old.place, 0) + 1) AS first_place
    FROM compared_with
    ASOF JOIN ends AS before
        ON before.service = compared_with.service
            AND before.operation = compared_with.operation
            AND before.end_ns <= as_of_ns
    ASOF LEFT JOIN ends AS too_old
        ON too_old.service = compared_with.service
            AND too_old.operation = compared_with.operation
            AND too_old.end_ns <= compared_with.since_ns
),
enough AS (
    SELECT
        bounds.*, last_place - first_place + 1 AS together,
        list_sort(list_slice(durations, first_place, last_place)) AS durations
    FROM bounds JOIN lists USING (service, operation)
    WHERE last_place - first_place + 1 >= 20
)
SELECT
    request_no, service, operation, first_place, last_place,
    floor(0.1 * together)::BIGINT + 1 AS from_rank, ceil(0.5 * together)::BIGINT AS to_rank,
    ceil(0.5 * together)::BIGINT - floor(0.1 * together)::BIGINT AS members,
    round(list_avg(list_slice(durations, floor(0.1 * together)::BIGINT + 1, ceil(0.5 * together)::BIGINT)))::BIGINT
        AS usual_ns
FROM enough;

-- The requests whose mean each usual is.
-- makes: usual_member
-- reads: usual, recent_request
-- only with: usual
CREATE OR REPLACE TEMP TABLE usual_member AS
SELECT request_no, trace_id, span_id, start_ns, duration_ns
FROM usual
JOIN recent_request USING (service, operation)
WHERE place BETWEEN first_place AND last_place
QUALIFY row_number() OVER (PARTITION BY request_no ORDER BY duration_ns, span_id) BETWEEN from_rank AND to_rank;
