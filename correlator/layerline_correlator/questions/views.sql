-- What `POST /api/v1/sql` and `layerline sql` may read. docs/SQL.md tells every view and column (tests/api/test_sql.py
-- holds it to that). Times are UTC; durations are nanoseconds.
CREATE SCHEMA IF NOT EXISTS views;

CREATE OR REPLACE VIEW views.requests AS
SELECT
    trace_id, span_id, root, request.service, operation,
    make_timestamp(start_ns // 1000) AS start, start_ns, end_ns - start_ns AS duration_ns,
    CASE status WHEN 1 THEN 'ok' WHEN 2 THEN 'error' ELSE 'unset' END AS status,
    usual_ns, end_ns - start_ns - usual_ns AS excess_ns, slow, cause, unexplained_ns, weight,
    request.container_id, request.host, resource.instance AS process
FROM main.request LEFT JOIN main.resource USING (resource);

CREATE OR REPLACE VIEW views.parts AS
SELECT
    trace_id,
    span_id,
    make_timestamp(start_ns // 1000) AS start,
    start_ns,
    cause,
    split_part(cause, '.', 1) AS layer,
    service,
    entity_type, entity_id, lost_ns, low_ns, high_ns, inferred, because, place
FROM main.part;

CREATE OR REPLACE VIEW views.blind AS
SELECT trace_id, span_id, make_timestamp(start_ns // 1000) AS start, start_ns, cause, service, facts, why
FROM main.blind;

CREATE OR REPLACE VIEW views.spans AS
SELECT
    trace_id, span_id, parent_span_id, resource.service, name,
    CASE kind WHEN 1 THEN 'internal' WHEN 2 THEN 'server' WHEN 3 THEN 'client' WHEN 4 THEN 'producer' WHEN
        5
        THEN 'consumer'
              ELSE 'unspecified' END AS kind,
    make_timestamp(start_ns // 1000) AS start, start_ns, end_ns - start_ns AS duration_ns,
    CASE status WHEN 1 THEN 'ok' WHEN 2 THEN 'error' ELSE 'unset' END AS status,
    thread_id, account, account_reason, thread_cpu_ns, thread_runqueue_ns, thread_blkio_ns, gc_ns,
    resource.container_id, resource.host, resource.instance AS process, span.attributes,
    status_message, trace_state, events, links, left_out
FROM main.span LEFT JOIN main.resource USING (resource);

CREATE OR REPLACE VIEW views.logs AS
SELECT
    make_timestamp(time_ns // 1000) AS time, time_ns, trace_id, span_id, severity, severity_text, body,
    resource.service, resource.container_id, resource.host, resource.instance AS process, log.attributes
FROM main.log LEFT JOIN main.resource USING (resource);

CREATE OR REPLACE VIEW views.points AS
SELECT
    signal, entity_type, entity_id, series.host, make_timestamp(time_ns // 1000) AS time, time_ns, value, unit, kind,
    series.attributes, series
FROM main.point JOIN main.series USING (series);

CREATE OR REPLACE VIEW views.events AS
SELECT
    make_timestamp(time_ns // 1000) AS time, time_ns, name, body,
    coalesce(event.attributes['service.name'], resource.service) AS service, resource.container_id, resource.host,
    event.attributes
FROM main.event LEFT JOIN main.resource USING (resource);

CREATE OR REPLACE VIEW views.containers AS
SELECT container_id, name, image, host, compose_service, attributes
FROM main.container;

CREATE OR REPLACE VIEW views.hosts AS
SELECT host, host_id, name, attributes
FROM main.host;

CREATE OR REPLACE VIEW views.processes AS
SELECT
    instance AS process,
    any_value(service) AS service,
    any_value(container_id) AS container_id,
    any_value(host) AS host,
    any_value(attributes['process.pid']) AS pid, make_timestamp(min(seen_ns) // 1000) AS first_seen,
    arg_max(attributes, seen_ns) AS attributes
FROM main.resource WHERE service IS NOT NULL GROUP BY instance;

-- Nobody can interrupt it, and it takes as long as both lengths multiplied.
CREATE OR REPLACE MACRO views.levenshtein(one, other) AS
    CASE WHEN greatest(length(one), length(other)) > 256
         THEN error('levenshtein compares texts of at most 256 characters')
         ELSE system.main.levenshtein(one, other) END;
