-- The rows of requests whose spans just arrived, before anything is worked out of them, and who of them gets a ledger.
--
-- In: batch(trace_id); $from_ns, $to_ns (around the starts of their spans); operation_usual(service, operation, usual_ns);
-- $slow_ns; operation_chance(service, operation, chance); $urgent_chance.

-- What is stored of these traces: `planned` is the weight that was drawn, `weight` that of the ledger, 0 while there is none.
-- makes: stored_trace
-- reads: batch
CREATE OR REPLACE TEMP TABLE stored_trace AS
SELECT trace_id, max(weight) AS weight, max(planned) AS planned, bool_or(fair) AS fair
FROM request SEMI JOIN batch USING (trace_id)
WHERE start_ns BETWEEN $from_ns AND $to_ns
GROUP BY trace_id;

-- The spans of those that have no ledger. One that has gets a new one, which brings its rows.
-- makes: early_span
-- reads: batch, stored_trace
CREATE OR REPLACE TEMP TABLE early_span AS
SELECT
    span.trace_id, span.span_id, span.parent_span_id, span.resource, span.name, span.kind, span.start_ns,
    greatest(span.start_ns, span.end_ns) AS end_ns, status_seen(span.status, span.attributes) AS status,
    coalesce(resource.service, '') AS service, coalesce(resource.instance, span.resource) AS instance,
    resource.container_id, resource.host
FROM span
SEMI JOIN batch ON batch.trace_id = span.trace_id
ANTI JOIN (FROM stored_trace WHERE weight > 0) AS worked_out ON worked_out.trace_id = span.trace_id
LEFT JOIN resource ON resource.resource = span.resource
WHERE span.start_ns BETWEEN $from_ns AND $to_ns;

-- Where those senders were lately that do not say it themselves: the ledgers of others of their requests know.
-- makes: placed_sender
-- reads: early_span
CREATE OR REPLACE TEMP TABLE placed_sender AS
SELECT resource, max_by(container_id, start_ns) AS container_id, max_by(host, start_ns) AS host
FROM request
SEMI JOIN (FROM early_span WHERE container_id IS NULL OR host IS NULL) AS unplaced USING (resource)
WHERE weight > 0 AND start_ns BETWEEN $from_ns AND $to_ns
GROUP BY resource;

-- Their requests: spans without a parent, and those that were called from another process.
-- makes: early_request
-- reads: early_span, placed_sender
CREATE OR REPLACE TEMP TABLE early_request AS
WITH parents AS (SELECT trace_id, span_id, list(instance) AS instances FROM early_span GROUP BY ALL)
SELECT
    early_span.* EXCLUDE (parent_span_id, kind, instance)
        REPLACE (
            coalesce(early_span.container_id, placed_sender.container_id) AS container_id,
            coalesce(early_span.host, placed_sender.host) AS host
        ),
    parents.span_id IS NULL AS root
FROM early_span
LEFT JOIN placed_sender ON placed_sender.resource = early_span.resource
LEFT JOIN parents ON parents.trace_id = early_span.trace_id AND parents.span_id = early_span.parent_span_id
    AND parents.span_id <> early_span.span_id
WHERE parents.span_id IS NULL OR (is_entry(kind) AND NOT list_contains(instances, instance));

-- The same, rated.
-- makes: rated_request
-- reads: early_request, operation_usual
CREATE OR REPLACE TEMP TABLE rated_request AS
SELECT
    early_request.*, usual_ns,
    CASE WHEN usual_ns IS NULL THEN end_ns - start_ns >= $slow_ns
         ELSE end_ns - start_ns > 2 * usual_ns AND end_ns - start_ns - usual_ns >= ms_of(50) END AS slow
FROM early_request
LEFT JOIN operation_usual
    ON operation_usual.service = early_request.service AND operation_usual.operation = early_request.name;

-- Each trace: when it ended, whether it is urgent (slow or failed anywhere, or of a shape that only a ledger can tell), its
-- operation, and its place in the draw, from 0 to 1.
-- makes: early_trace
-- reads: batch, stored_trace, rated_request
CREATE OR REPLACE TEMP TABLE early_trace AS
WITH
rated_trace AS (
    SELECT
        trace_id, max(end_ns) AS end_ns, bool_or(slow OR failed(status)) AS urgent,
        max_by(service, (root, end_ns - start_ns, span_id)) AS service,
        max_by(name, (root, end_ns - start_ns, span_id)) AS operation
    FROM rated_request GROUP BY trace_id
)
SELECT
    batch.trace_id, rated_trace.end_ns, coalesce(urgent, TRUE) AS urgent, service, operation,
    hash(batch.trace_id || ' draws') / 18446744073709551616.0 AS place,
    coalesce(stored_trace.weight > 0, FALSE) AS worked_out, stored_trace.planned, stored_trace.fair
FROM batch
LEFT JOIN rated_trace ON rated_trace.trace_id = batch.trace_id
LEFT JOIN stored_trace ON stored_trace.trace_id = batch.trace_id;

-- Who gets a ledger: `planned` is how many requests it will stand for, 0 where there will be none. What was drawn before stays,
-- unless it turned out to be urgent. `fair` are those that were drawn whatever they are: the usual is made of these.
-- makes: drawn_trace
-- reads: early_trace, operation_chance
CREATE OR REPLACE TEMP TABLE drawn_trace AS
SELECT
    trace_id, end_ns, urgent, worked_out, early_trace.planned IS NULL AS is_new,
    CASE WHEN worked_out             THEN planned
         WHEN urgent                 THEN CASE WHEN place < $urgent_chance THEN 1 / $urgent_chance ELSE 0 END
         WHEN planned IS NOT NULL    THEN planned
         WHEN place < coalesce(chance, 1) THEN 1 / coalesce(chance, 1)
         ELSE 0 END::DOUBLE AS planned,
    coalesce(fair, place < coalesce(chance, 1)) AS fair
FROM early_trace
LEFT JOIN operation_chance
    ON operation_chance.service = early_trace.service AND operation_chance.operation = early_trace.operation;
