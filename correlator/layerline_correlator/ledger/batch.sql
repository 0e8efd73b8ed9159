-- The spans of the batch, and the moments at which somebody sent one: whom join.sql is to tie to a container.
--
-- In:  batch(trace_id), and $from_ns, $to_ns around the start of its spans.
-- Out: arrived, moment, called_at.
CREATE OR REPLACE TEMP TABLE arrived AS
SELECT span.* FROM span SEMI JOIN batch ON batch.trace_id = span.trace_id
WHERE span.start_ns BETWEEN $from_ns AND $to_ns;

CREATE OR REPLACE TEMP TABLE moment AS SELECT DISTINCT resource, start_ns AS at_ns FROM arrived;

CREATE OR REPLACE TEMP TABLE called_at AS
SELECT resource, local_address(any_value(attributes)) AS address FROM arrived WHERE kind = 2 GROUP BY resource;
