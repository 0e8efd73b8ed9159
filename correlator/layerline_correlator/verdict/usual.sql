-- The usual of requests: the mean ledger of those between the 10th and the 50th percentile of duration among the last
-- 500 (at least 20, at most an hour old) of the same service and operation that ended before each began. Time inside an
-- incident is left out, also of the hour: a request of an incident is compared with what was usual when it began.
--
-- In:  asked(request_no, trace_id, span_id, service, operation, start_ns).
-- Out: usual(request_no, usual_ns, members, and where its members are found in `recent`; see usual_members.sql).
-- An operation's requests stand in one list in the order in which they ended; what a request is compared with is a slice
-- of it, so that thousands of requests can be asked for at once.
CREATE OR REPLACE TEMP TABLE compared AS
WITH
as_of AS (
    SELECT asked.request_no, asked.service, asked.operation, least(asked.start_ns, min(unusual.start_ns)) AS as_of_ns
    FROM asked
    LEFT JOIN unusual ON unusual.service = asked.service AND unusual.operation = asked.operation
        AND asked.start_ns >= unusual.start_ns AND asked.start_ns < unusual.end_ns
    GROUP BY asked.request_no, asked.service, asked.operation, asked.start_ns
)
SELECT as_of.*,
       as_of_ns - 3_600_000_000_000 - coalesce(sum(least(unusual.end_ns, as_of_ns) - unusual.start_ns), 0)::BIGINT AS since_ns
FROM as_of
LEFT JOIN unusual ON unusual.service = as_of.service AND unusual.operation = as_of.operation
    AND unusual.start_ns < as_of_ns AND unusual.end_ns > as_of_ns - 3_600_000_000_000
GROUP BY as_of.request_no, as_of.service, as_of.operation, as_of_ns;

CREATE OR REPLACE TEMP TABLE recent AS
WITH
operations AS (
    SELECT service, operation, min(as_of_ns) AS first_ns, max(as_of_ns) AS last_ns, min(since_ns) AS since_ns
    FROM compared GROUP BY ALL
),
-- No more of each operation than the last 500 before the first that is asked, and all since.
ended AS (
    SELECT request.*, operations.first_ns
    FROM ordinary_request AS request JOIN operations USING (service, operation)
    WHERE request.end_ns <= operations.last_ns AND request.end_ns > operations.since_ns
      AND request.start_ns <= operations.last_ns
    QUALIFY request.end_ns > operations.first_ns
         OR row_number() OVER (
                PARTITION BY request.service, request.operation, request.end_ns > operations.first_ns
                ORDER BY request.end_ns DESC, request.span_id DESC) <= 500
)
SELECT
    service, operation, trace_id, span_id, start_ns, end_ns, end_ns - start_ns AS duration_ns,
    row_number() OVER (PARTITION BY service, operation ORDER BY end_ns, span_id) AS place
FROM ended;

CREATE OR REPLACE TEMP TABLE usual AS
WITH
lists AS (
    SELECT service, operation, list(duration_ns ORDER BY place) AS durations FROM recent GROUP BY ALL
),
ends AS (
    SELECT service, operation, end_ns, max(place) AS place FROM recent GROUP BY ALL
),
bounds AS (
    SELECT
        compared.request_no, compared.service, compared.operation, before.place AS last_place,
        greatest(before.place - 499, coalesce(too_old.place, 0) + 1) AS first_place
    FROM compared
    ASOF JOIN ends AS before
        ON before.service = compared.service AND before.operation = compared.operation AND before.end_ns <= as_of_ns
    ASOF LEFT JOIN ends AS too_old
        ON too_old.service = compared.service AND too_old.operation = compared.operation AND too_old.end_ns <= compared.since_ns
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
    round(list_avg(list_slice(durations, floor(0.1 * together)::BIGINT + 1, ceil(0.5 * together)::BIGINT)))::BIGINT AS usual_ns
FROM enough;
