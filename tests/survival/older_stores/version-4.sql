-- The store of version 4: points are in a table and in files, all spans and log records in one table each.
CREATE TABLE blind (
    trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, cause VARCHAR, service VARCHAR, facts VARCHAR[], why
    VARCHAR, foreign_readings BOOLEAN, host VARCHAR, agent_reads BOOLEAN
);
CREATE TABLE blind_minute (
    "minute" BIGINT, request_service VARCHAR, cause VARCHAR, anywhere BOOLEAN, service VARCHAR, facts VARCHAR[], why
    VARCHAR, foreign_readings BOOLEAN, host VARCHAR, agent_reads BOOLEAN, requests DOUBLE
);
CREATE TABLE edge_minute (
    "minute" BIGINT, caller VARCHAR, callee_type VARCHAR, callee VARCHAR, calls BIGINT, errors BIGINT, weight
    DOUBLE, duration_ns HUGEINT, answered BIGINT, gap_ns HUGEINT, durations MAP(SMALLINT, UBIGINT)
);
CREATE TABLE "event" (
    "resource" VARCHAR, time_ns BIGINT, "name" VARCHAR, body VARCHAR, attributes MAP(VARCHAR, VARCHAR)
);
CREATE TABLE failed (
    trace_id VARCHAR, to_ns BIGINT, tries BIGINT, lacks VARCHAR, why VARCHAR, failed_ns BIGINT
);
CREATE TABLE failure (
    trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, "type" VARCHAR, message VARCHAR, status_code VARCHAR,
    status_of VARCHAR, said_by VARCHAR, failed_span_id VARCHAR, failed_name VARCHAR, service VARCHAR, container_id
    VARCHAR, host VARCHAR, dependency VARCHAR, dependency_system VARCHAR, services VARCHAR[]
);
CREATE TABLE hot_point (
    series VARCHAR, start_ns BIGINT, time_ns BIGINT, "value" DOUBLE
);
CREATE TABLE incident (
    incident VARCHAR, start_ns BIGINT, end_ns BIGINT, noticed_ns BIGINT, told_ns BIGINT, settled BOOLEAN,
    merged_into VARCHAR, "document" VARCHAR
);
CREATE TABLE log (
    "resource" VARCHAR, time_ns BIGINT, trace_id VARCHAR, span_id VARCHAR, severity TINYINT, severity_text VARCHAR,
    body VARCHAR, attributes MAP(VARCHAR, VARCHAR), left_out STRUCT(attributes BIGINT, events BIGINT, links BIGINT,
    shortened BIGINT)
);
CREATE TABLE part (
    trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, cause VARCHAR, service VARCHAR, entity_type VARCHAR,
    entity_id VARCHAR, lost_ns BIGINT, low_ns BIGINT, high_ns BIGINT, inferred BOOLEAN, neighbours
    STRUCT(entity_type VARCHAR, entity_id VARCHAR, ran_ns BIGINT)[], because VARCHAR, place VARCHAR, calls BIGINT,
    dependency VARCHAR, dependency_type VARCHAR, "statement" VARCHAR
);
CREATE TABLE part_minute (
    "minute" BIGINT, passed BIGINT, service VARCHAR, operation VARCHAR, root BOOLEAN, "resource" VARCHAR,
    container_id VARCHAR, host VARCHAR, cause VARCHAR, entity_type VARCHAR, entity_id VARCHAR, requests BIGINT,
    weight DOUBLE, lost_ns DOUBLE, low_ns DOUBLE, high_ns DOUBLE
);
CREATE TABLE point_minute (
    "minute" BIGINT, series VARCHAR, points BIGINT, first_ns BIGINT, last_ns BIGINT, first_start_ns BIGINT,
    first_value DOUBLE, last_value DOUBLE, lowest DOUBLE, highest DOUBLE, rise DOUBLE, held DOUBLE, step_ns BIGINT,
    long_steps BIGINT[]
);
CREATE TABLE recording (
    "source" VARCHAR, bytes BIGINT, modified_ns BIGINT, "offset" BIGINT, line BIGINT, inside VARCHAR, rejected
    BIGINT, left_out BIGINT, finished BOOLEAN
);
CREATE TABLE refused (
    trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, why VARCHAR
);
CREATE TABLE request (
    trace_id VARCHAR, span_id VARCHAR, root BOOLEAN, service VARCHAR, operation VARCHAR, "resource" VARCHAR,
    start_ns BIGINT, end_ns BIGINT, status TINYINT, unexplained_ns BIGINT, skew_adjusted_ns BIGINT, usual_ns BIGINT,
    slow BOOLEAN, cause VARCHAR, container_id VARCHAR, host VARCHAR, join_method VARCHAR, join_confidence DOUBLE,
    join_reason VARCHAR, judged_ns BIGINT, weight DOUBLE DEFAULT(1), planned DOUBLE DEFAULT(1), fair BOOLEAN
    DEFAULT(true)
);
CREATE TABLE request_minute (
    "minute" BIGINT, service VARCHAR, operation VARCHAR, root BOOLEAN, "resource" VARCHAR, container_id VARCHAR,
    host VARCHAR, requests BIGINT, errors BIGINT, slow BIGINT, orphans BIGINT, left_out BIGINT, weight DOUBLE,
    first_ns BIGINT, last_ns BIGINT, duration_ns HUGEINT, unexplained_ns DOUBLE, durations MAP(SMALLINT, UBIGINT)
);
CREATE TABLE "resource" (
    "resource" VARCHAR, service VARCHAR, instance VARCHAR, container_id VARCHAR, host VARCHAR, in_container BOOLEAN,
    cpus BIGINT, attributes MAP(VARCHAR, VARCHAR), seen_ns BIGINT, host_by VARCHAR, handles STRUCT("key" VARCHAR,
    "value" VARCHAR, "attribute" VARCHAR)[], sandbox BOOLEAN, stand_in VARCHAR
);
CREATE TABLE series (
    series VARCHAR, "resource" VARCHAR, signal VARCHAR, unit VARCHAR, kind VARCHAR, entity_type VARCHAR, entity_id
    VARCHAR, host VARCHAR, attributes MAP(VARCHAR, VARCHAR), part_of MAP(VARCHAR, VARCHAR)
);
CREATE TABLE slo (
    slo VARCHAR, service VARCHAR, operation VARCHAR, objective DOUBLE, threshold_ns BIGINT
);
CREATE TABLE span (
    trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR, "resource" VARCHAR, "name" VARCHAR, kind TINYINT,
    start_ns BIGINT, end_ns BIGINT, status TINYINT, thread_id BIGINT, account VARCHAR, account_reason VARCHAR,
    slices BIGINT[], thread_cpu_ns BIGINT, thread_system_ns BIGINT, thread_runqueue_ns BIGINT, thread_blkio_ns
    BIGINT, thread_major_faults BIGINT, thread_voluntary_switches BIGINT, thread_involuntary_switches BIGINT,
    thread_blocks_read BIGINT, thread_blocks_written BIGINT, gc_ns BIGINT, container_throttled_ns BIGINT,
    container_usage_ns BIGINT, container_runnable_ns BIGINT, container_refaults BIGINT, container_io_pressure_ns
    BIGINT, container_memory_pressure_ns BIGINT, container_oom_kills BIGINT, process_first_request BIGINT,
    accept_wait_ns BIGINT, accept_busy_ns BIGINT, accept_runqueue_ns BIGINT, pool_wait_ns BIGINT, loop_wait_ns
    BIGINT, loop_wait_low_ns BIGINT, loop_queued_ns BIGINT, samples_every_ns BIGINT, container_throttled_periods
    BIGINT, container_cpu_quota_ns BIGINT, container_cpu_period_ns BIGINT, attributes MAP(VARCHAR, VARCHAR),
    status_message VARCHAR, trace_state VARCHAR, events STRUCT(time_ns BIGINT, "name" VARCHAR, attributes
    MAP(VARCHAR, VARCHAR))[], links STRUCT(trace_id VARCHAR, span_id VARCHAR, attributes MAP(VARCHAR, VARCHAR))[],
    left_out STRUCT(attributes BIGINT, events BIGINT, links BIGINT, shortened BIGINT)
);
CREATE TABLE span_minute (
    "minute" BIGINT, "resource" VARCHAR, account VARCHAR, spans BIGINT, first_ns BIGINT, last_ns BIGINT, threshold
    VARCHAR, address VARCHAR, cpu_ns BIGINT, blocks_read BIGINT, throttled_ns BIGINT
);
CREATE TABLE stale_minute (
    kind VARCHAR, "minute" BIGINT, marked_ns BIGINT
);
CREATE TABLE stay (
    trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, service VARCHAR, container_id VARCHAR, host VARCHAR, own_ns
    BIGINT, open_ns BIGINT, ready_ns BIGINT
);
CREATE TABLE stay_minute (
    "minute" BIGINT, service VARCHAR, operation VARCHAR, root BOOLEAN, "resource" VARCHAR, container_id VARCHAR,
    host VARCHAR, at_service VARCHAR, at_container_id VARCHAR, at_host VARCHAR, own_ns HUGEINT, open_ns HUGEINT,
    ready_ns HUGEINT
);
CREATE TABLE store_version (
    "version" INTEGER
);
CREATE TABLE trouble (
    trouble VARCHAR, incident VARCHAR, service VARCHAR, operation VARCHAR, start_ns BIGINT, end_ns BIGINT,
    noticed_ns BIGINT, seen_ns BIGINT, base_ns BIGINT, slow_ns BIGINT, signs VARCHAR[], causes STRUCT(cause VARCHAR,
    service VARCHAR, address VARCHAR, least_ns BIGINT)[], lasting BOOLEAN, slo VARCHAR, split_from VARCHAR,
    stretches STRUCT(kind VARCHAR, cause VARCHAR, service VARCHAR, address VARCHAR, from_ns BIGINT, noticed_ns
    BIGINT, to_ns BIGINT)[]
);
CREATE TABLE watched (
    judged_ns BIGINT
);
CREATE VIEW point AS FROM hot_point;
CREATE TABLE sealed_file (
    kind VARCHAR, file VARCHAR, from_ns BIGINT, to_ns BIGINT, "rows" BIGINT, bytes BIGINT, "columns" VARCHAR[], sealed_ns
    BIGINT
);

INSERT INTO store_version VALUES (4);

INSERT INTO resource BY NAME
SELECT 'r1' AS resource, 'web' AS service, 'web-1' AS instance, repeat('ab', 32) AS container_id, 'host-1' AS host,
    MAP {'service.name': 'web'} AS attributes, epoch_ns(now()) AS seen_ns, 'host.name' AS host_by;

INSERT INTO span BY NAME
SELECT format('{:032x}', number // 5 + 1) AS trace_id,
    format('{:016x}', number + 1) AS span_id,
    CASE WHEN number % 5 > 0 THEN format('{:016x}', number // 5 * 5 + 1) END AS parent_span_id,
    'r1' AS resource,
    CASE WHEN number % 5 > 0 THEN 'SELECT' ELSE 'GET /' END AS name,
    CASE WHEN number % 5 > 0 THEN 3 ELSE 2 END AS kind,
    epoch_ns(now()) - 300000000000 + number // 5 * 50000000 + number % 5 * 10000000 AS start_ns,
    epoch_ns(now()) - 300000000000 + number // 5 * 50000000 + number % 5 * 10000000
        + CASE WHEN number % 5 > 0 THEN 5000000 ELSE 60000000 END AS end_ns,
    0 AS status,
    MAP {'k': 'v'} AS attributes
FROM range(20000) AS numbers (number);

INSERT INTO series BY NAME
SELECT 's1' AS series, 'r1' AS resource, 'container.cpu.time' AS signal, 'ns' AS unit, 'cumulative' AS kind,
    'container' AS entity_type, repeat('ab', 32) AS entity_id, 'host-1' AS host, MAP {} AS attributes;

INSERT INTO hot_point BY NAME
SELECT 's1' AS series, 1 AS start_ns, epoch_ns(now()) - 300000000000 + number * 10000000 AS time_ns,
    number * 1000.0 AS value
FROM range(20000) AS numbers (number);

INSERT INTO event BY NAME
SELECT 'r1' AS resource, epoch_ns(now()) - number * 1000000000 AS time_ns, 'deploy' AS name,
    'deployed web' AS body, MAP {} AS attributes
FROM range(200) AS numbers (number);
