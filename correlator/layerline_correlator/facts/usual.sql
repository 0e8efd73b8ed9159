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
       dense_rank() OVER (ORDER BY as_of.service, as_of.operation) AS operation_no,
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
    SELECT service, operation, operation_no, min(as_of_ns) AS first_ns, max(as_of_ns) AS last_ns,
           min(since_ns) AS since_ns
    FROM compared_with GROUP BY ALL
),
-- No more of each operation than the last 500 before the first that is wanted, and all since.
ended AS (
    SELECT request.*, operations.operation_no
    FROM ordinary_request AS request JOIN operations USING (service, operation)
    WHERE request.end_ns <= operations.last_ns AND request.end_ns > operations.since_ns
      AND request.start_ns <= operations.last_ns
      -- A fair sample stands for all of them: no slow request that has a ledger because it is slow.
      AND request.fair AND request.weight > 0
    QUALIFY request.end_ns > operations.first_ns
         OR row_number() OVER (
                PARTITION BY operations.operation_no, request.end_ns > operations.first_ns
                ORDER BY request.end_ns DESC, request.span_id DESC) <= 500
)
SELECT
    service, operation, operation_no, trace_id, span_id, start_ns, end_ns, end_ns - start_ns AS duration_ns,
    row_number() OVER (PARTITION BY operation_no ORDER BY end_ns, span_id) AS place
FROM ended;

-- The requests whose mean each usual is, of those from `first_place` to `last_place`. Each place is looked up by numbers, and
-- texts are fetched of the members alone: comparing by ranges, or sorting texts, costs several times as much.
-- makes: usual_member
-- reads: compared_with, recent_request
-- only with: recent_request
CREATE OR REPLACE TEMP TABLE usual_member AS
WITH
ends AS (
    SELECT operation_no, end_ns, max(place) AS place FROM recent_request GROUP BY ALL
),
bounds AS (
    SELECT
        request_no, compared_with.operation_no, before.place AS last_place,
        greatest(before.place - 499, coalesce(too_old.place, 0) + 1) AS first_place,
        last_place - first_place + 1 AS together
    FROM compared_with
    ASOF JOIN ends AS before
        ON before.operation_no = compared_with.operation_no AND before.end_ns <= as_of_ns
    ASOF LEFT JOIN ends AS too_old
        ON too_old.operation_no = compared_with.operation_no AND too_old.end_ns <= compared_with.since_ns
    WHERE together >= 20
),
each_place AS (
    SELECT request_no, operation_no, unnest(range(first_place, last_place + 1)) AS place FROM bounds
),
ranked AS (
    SELECT request_no, place, row_number() OVER (PARTITION BY request_no ORDER BY duration_ns, place) AS length_rank
    FROM each_place JOIN (SELECT operation_no, place, duration_ns FROM recent_request) USING (operation_no, place)
),
member AS (
    SELECT bounds.*, place FROM ranked JOIN bounds USING (request_no)
    WHERE length_rank BETWEEN floor(0.1 * together)::BIGINT + 1 AND ceil(0.5 * together)::BIGINT
)
SELECT request_no, first_place, last_place, trace_id, span_id, start_ns, duration_ns
FROM member JOIN recent_request USING (operation_no, place);

-- The usual of each: usual_ns, members, and where the requests stand in `recent_request` of which these are some.
-- makes: usual
-- reads: compared_with, usual_member
-- only with: usual_member
CREATE OR REPLACE TEMP TABLE usual AS
SELECT
    request_no, any_value(service) AS service, any_value(operation) AS operation,
    any_value(first_place) AS first_place, any_value(last_place) AS last_place, count(*) AS members,
    round(avg(duration_ns))::BIGINT AS usual_ns
FROM usual_member JOIN compared_with USING (request_no) GROUP BY request_no;
