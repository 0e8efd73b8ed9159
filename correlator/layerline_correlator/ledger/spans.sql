-- The spans of the batch, and the moments at which somebody sent one: who is to be tied to a container (facts/join).

-- makes: arrived
-- reads: batch
CREATE OR REPLACE TEMP TABLE arrived AS
SELECT
    span.* EXCLUDE (events, links, trace_state, left_out)
        REPLACE (greatest(start_ns, end_ns) AS end_ns, status_seen(status, attributes) AS status),
    last_exception(events) AS exception
FROM span SEMI JOIN batch ON batch.trace_id = span.trace_id
WHERE span.start_ns BETWEEN $from_ns AND $to_ns;

-- makes: sighting
-- reads: arrived
CREATE OR REPLACE TEMP TABLE sighting AS
SELECT DISTINCT resource, start_ns AS at_ns FROM arrived;

-- makes: called_at
-- reads: arrived
-- only with: doubtful_sighting
CREATE OR REPLACE TEMP TABLE called_at AS
SELECT resource, local_address(any_value(attributes)) AS address FROM arrived WHERE is_server(kind) GROUP BY resource;
