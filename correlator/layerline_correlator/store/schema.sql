-- What is kept: what came in, and the ledger worked out from it. Times are nanoseconds since 1970, UTC.
-- No unique index: a span or point delivered twice is dropped when it is written (store.py), which is cheaper.

-- Who sent it. One row per distinct set of resource attributes; the first seen stays.
CREATE TABLE IF NOT EXISTS resource (
    resource     VARCHAR,                 -- key over the attributes
    service      VARCHAR,                 -- service.name, null for containers and hosts themselves
    instance     VARCHAR,                 -- one process: boot id and pid, else service.instance.id, else the resource
    container_id VARCHAR,                 -- container.id, bare, or what stands for it; null where there is neither
    host         VARCHAR,                 -- boot id, else host.id, else the machine's name
    in_container BOOLEAN,                 -- null where nobody looked
    cpus         BIGINT,                  -- how many CPUs it may use, by affinity and cpuset
    attributes   MAP(VARCHAR, VARCHAR),
    seen_ns      BIGINT,                  -- when it was first received
    host_by      VARCHAR,                 -- the attribute that `host` was taken from
    handles      STRUCT("key" VARCHAR, "value" VARCHAR, attribute VARCHAR)[],  -- handles.py
    sandbox      BOOLEAN,                 -- a container that holds a pod's namespaces and runs nothing of the application
    stand_in     VARCHAR                  -- what stands for the id in a description of a container without one (handles.py)
);

-- One OpenTelemetry span. The view `span` has these and those in files (sealed.py); `log` likewise. The columns after `slices` are
-- the figures of layerline.attributes.SPAN_FIGURES.
CREATE TABLE IF NOT EXISTS hot_span (
    trace_id                     VARCHAR,
    span_id                      VARCHAR,
    parent_span_id               VARCHAR,
    resource                     VARCHAR,
    name                         VARCHAR,
    kind                         TINYINT,
    start_ns                     BIGINT,
    end_ns                       BIGINT,
    status                       TINYINT,
    thread_id                    BIGINT,
    account                      VARCHAR,
    account_reason               VARCHAR,
    slices                       BIGINT[],
    thread_cpu_ns                BIGINT,
    thread_system_ns             BIGINT,
    thread_runqueue_ns           BIGINT,
    thread_blkio_ns              BIGINT,
    thread_major_faults          BIGINT,
    thread_voluntary_switches    BIGINT,
    thread_involuntary_switches  BIGINT,
    thread_blocks_read           BIGINT,
    thread_blocks_written        BIGINT,
    gc_ns                        BIGINT,
    container_throttled_ns       BIGINT,
    container_usage_ns           BIGINT,
    container_runnable_ns        BIGINT,
    container_refaults           BIGINT,
    container_io_pressure_ns     BIGINT,
    container_memory_pressure_ns BIGINT,
    container_oom_kills          BIGINT,
    process_first_request        BIGINT,
    accept_wait_ns               BIGINT,
    accept_busy_ns               BIGINT,
    accept_runqueue_ns           BIGINT,
    pool_wait_ns                 BIGINT,
    loop_wait_ns                 BIGINT,
    loop_wait_low_ns             BIGINT,
    loop_queued_ns               BIGINT,
    samples_every_ns             BIGINT,
    container_throttled_periods  BIGINT,
    container_cpu_quota_ns       BIGINT,
    container_cpu_period_ns      BIGINT,
    attributes                   MAP(VARCHAR, VARCHAR),
    -- What few spans have: null where there is nothing of it.
    status_message               VARCHAR,
    trace_state                  VARCHAR,
    events                       STRUCT(time_ns BIGINT, "name" VARCHAR, attributes MAP(VARCHAR, VARCHAR))[],
    links                        STRUCT(trace_id VARCHAR, span_id VARCHAR, attributes MAP(VARCHAR, VARCHAR))[],
    -- How many of each are not kept, by the sender or by us, and how many values were cut.
    left_out                     STRUCT(
        attributes BIGINT, events BIGINT, links BIGINT, shortened BIGINT)
);

-- One series of points, with the entity it tells of.
CREATE TABLE IF NOT EXISTS series (
    series      VARCHAR,
    resource    VARCHAR,
    signal      VARCHAR,
    unit        VARCHAR,
    kind        VARCHAR,                  -- cumulative | delta | gauge
    entity_type VARCHAR,                  -- container | host | service
    entity_id   VARCHAR,                  -- container id, host key, service name
    host        VARCHAR,                  -- the host that the entity is on
    attributes  MAP(VARCHAR, VARCHAR),
    part_of     MAP(VARCHAR, VARCHAR),    -- of one CPU, of one mode …: the attributes of the figure they add up to; null for the figure itself
    source      VARCHAR                   -- who read it: 'layerline agent', 'cAdvisor' …; null where nothing tells
);

-- The values as they came. Readings (increases over intervals) are worked out from them when asked for,
-- so that points that come late or twice do no harm. The view `point` has these and those in files (sealed.py).
CREATE TABLE IF NOT EXISTS hot_point (
    series   VARCHAR,
    start_ns BIGINT,
    time_ns  BIGINT,
    value    DOUBLE
);

-- The files of hours that are no longer hot. What no row names is no part of the store.
CREATE TABLE IF NOT EXISTS sealed_file (
    kind      VARCHAR,                    -- point | span | log
    file      VARCHAR,                    -- below the store's folder
    from_ns   BIGINT,                     -- the hour
    to_ns     BIGINT,
    rows      BIGINT,
    bytes     BIGINT,
    columns   VARCHAR[],                  -- those that the table had then
    sealed_ns BIGINT,                     -- when it was written
    step_ns   BIGINT                      -- of points of which two are kept for each step (rollup.py); else null
);

-- Traces that have rows in sealed hours far from all of their requests, which say where the others are (sealed.py).
CREATE TABLE IF NOT EXISTS sealed_trace (
    trace_id VARCHAR,
    kind     VARCHAR,                     -- span | log
    from_ns  BIGINT                       -- the hour
);

CREATE TABLE IF NOT EXISTS event (
    resource   VARCHAR,
    time_ns    BIGINT,
    name       VARCHAR,
    body       VARCHAR,
    attributes MAP(VARCHAR, VARCHAR)
);

-- A log record. Its resource says which process, container and machine it comes from, as that of a span does.
CREATE TABLE IF NOT EXISTS hot_log (
    resource      VARCHAR,
    time_ns       BIGINT,
    trace_id      VARCHAR,                -- null where it names none
    span_id       VARCHAR,
    severity      TINYINT,                -- OTLP's SeverityNumber: 9 INFO, 13 WARN, 17 ERROR, 21 FATAL; 0 where it is not said
    severity_text VARCHAR,
    body          VARCHAR,
    attributes    MAP(VARCHAR, VARCHAR),
    left_out      STRUCT(attributes BIGINT, events BIGINT, links BIGINT, shortened BIGINT)
);

-- The files of recorded data that were imported, and how far each was read. Where there is one, the store is a recording:
-- nothing is deleted from it by age or size.
CREATE TABLE IF NOT EXISTS recording (
    source      VARCHAR,                  -- absolute path
    bytes       BIGINT,
    modified_ns BIGINT,
    "offset"    BIGINT,                   -- where reading goes on: bytes of the file, or rows of a table
    line        BIGINT,
    inside      VARCHAR,                  -- the list of a JSON document that the offset is in
    rejected    BIGINT,                   -- items that could not be read
    left_out    BIGINT,                   -- items that are not kept, such as log records that are no events
    finished    BOOLEAN
);

-- What was beyond a cap (caps.py): how much of what name, and when.
CREATE TABLE IF NOT EXISTS exceeded (
    kind     VARCHAR,                     -- series | senders | tag values
    name     VARCHAR,                     -- the metric, the service, the tag; null where there were too many to name
    sender   VARCHAR,                     -- who sent it
    first_ns BIGINT,                      -- by this server's clock; of recorded data, by its own
    last_ns  BIGINT,
    items    BIGINT                       -- points; spans, points, log records and events; resources without the tag
);

-- Made anew with the files of hours that are no longer hot (sealed.py). Of one trace, `received_no` is the order in which its
-- spans were received.
CREATE VIEW IF NOT EXISTS point AS FROM hot_point;
CREATE VIEW IF NOT EXISTS span AS SELECT *, rowid AS received_no FROM hot_span;
CREATE VIEW IF NOT EXISTS log AS FROM hot_log;

-- ---- the ledger, worked out again whenever a request's spans or readings change

CREATE TABLE IF NOT EXISTS request (
    trace_id         VARCHAR,
    span_id          VARCHAR,             -- the entry span
    root             BOOLEAN,             -- no parent in the store
    service          VARCHAR,
    operation        VARCHAR,
    resource         VARCHAR,
    start_ns         BIGINT,
    end_ns           BIGINT,
    status           TINYINT,
    unexplained_ns   BIGINT,
    skew_adjusted_ns BIGINT,
    usual_ns         BIGINT,              -- null where there is none
    slow             BOOLEAN,
    cause            VARCHAR,             -- first culprit, null where there is none
    container_id     VARCHAR,             -- that its entry span came from (join.sql)
    host             VARCHAR,
    join_method      VARCHAR,             -- the weakest on its path
    join_confidence  DOUBLE,
    join_reason      VARCHAR,             -- why it is not surer, null where it could not be
    judged_ns        BIGINT,              -- when it was worked out
    weight           DOUBLE DEFAULT 1,    -- how many requests its ledger stands for; 0 where it has none
    planned          DOUBLE DEFAULT 1,    -- the weight that its ledger will have; 0 where it was not drawn (triage.sql)
    fair             BOOLEAN DEFAULT TRUE, -- drawn whatever it is, slow or not: the usual is made of these
    blind_spots      UBIGINT[]            -- from where it was seen; null where it has no ledger
);

CREATE TABLE IF NOT EXISTS part (
    trace_id    VARCHAR,
    span_id     VARCHAR,                  -- of the request
    start_ns    BIGINT,                   -- of the request: rows are found and deleted by time
    cause       VARCHAR,
    service     VARCHAR,
    entity_type VARCHAR,
    entity_id   VARCHAR,
    lost_ns     BIGINT,
    low_ns      BIGINT,
    high_ns     BIGINT,
    inferred    BOOLEAN,
    neighbours  STRUCT(entity_type VARCHAR, entity_id VARCHAR, ran_ns BIGINT)[],
    because     VARCHAR,
    place       VARCHAR,                  -- "function file:line" where it was seen, null where nobody looked
    calls       BIGINT,                   -- of a dependency: how many calls the request made there
    dependency  VARCHAR,                  -- of a dependency: "postgresql", "kafka"; null where its callers do not say
    dependency_type VARCHAR,              -- database | cache | message broker | http service
    statement   VARCHAR                   -- of a database: the statement that cost most, as it was sent
);

-- What cannot be seen from where: a row for each cause that is blind there, or one without a cause. Thousands of requests share
-- a spot; the view `blind` has the rows of each.
CREATE TABLE IF NOT EXISTS blind_spot (
    spot     UBIGINT,
    cause    VARCHAR,
    service  VARCHAR,                     -- where
    facts    VARCHAR[],                   -- what was not measured there: any one of these would do
    why      VARCHAR,                     -- what is known about why, null where nothing is
    foreign_readings BOOLEAN,             -- its container is read, but not by our agent
    host     VARCHAR,                     -- the machine that the service ran on
    agent_reads BOOLEAN                   -- our agent reads that machine
);

-- Where a request's own time was spent, explained or not.
CREATE TABLE IF NOT EXISTS stay (
    trace_id     VARCHAR,
    span_id      VARCHAR,                 -- of the request
    start_ns     BIGINT,
    service      VARCHAR,
    container_id VARCHAR,
    host         VARCHAR,
    own_ns       BIGINT,                  -- on the critical path; these sum to the request's duration
    open_ns      BIGINT,                  -- of it, what no cause explains; these sum to what is unexplained
    ready_ns     BIGINT                   -- of that, what may have been waited for a CPU
);

-- Requests whose parts did not add up (a fault of ours, or data of a kind that was never thought of): kept without parts.
CREATE TABLE IF NOT EXISTS refused (
    trace_id VARCHAR,
    span_id  VARCHAR,                     -- of the request
    start_ns BIGINT,
    why      VARCHAR
);

-- Traces that the worker failed to work out: not tried again until new spans of theirs arrive, and then a few times.
CREATE TABLE IF NOT EXISTS failed (
    trace_id  VARCHAR,
    to_ns     BIGINT,                     -- the latest start of its spans
    tries     BIGINT,
    lacks     VARCHAR,                    -- readings: judged by its spans alone | ledger: kept without parts
    why       VARCHAR,                    -- the error
    failed_ns BIGINT                      -- when it failed last
);

-- Why a request failed: the deepest span on the way down that failed too, and what is said of it.
CREATE TABLE IF NOT EXISTS failure (
    trace_id          VARCHAR,
    span_id           VARCHAR,            -- of the request
    start_ns          BIGINT,             -- of the request
    type              VARCHAR,            -- of the exception, else `error.type`; null where neither is said
    message           VARCHAR,
    status_code       VARCHAR,            -- "HTTP 500", "gRPC UNAVAILABLE"
    status_of         VARCHAR,            -- the service whose span has that code
    said_by           VARCHAR,            -- exception | log | status
    failed_span_id    VARCHAR,            -- the span that failed
    failed_name       VARCHAR,
    service           VARCHAR,            -- in which it failed
    container_id      VARCHAR,
    host              VARCHAR,
    dependency        VARCHAR,            -- whom it called, where it is a call; null where it is not
    dependency_system VARCHAR,            -- "postgresql"
    services          VARCHAR[]           -- from the request's to the one in which it failed
);

-- Minutes (nanoseconds since 1970 // 60e9) whose rows were written or deleted since they were summed up: stale.py.
CREATE TABLE IF NOT EXISTS stale_minute (
    kind      VARCHAR,                    -- point | span | request
    minute    BIGINT,
    marked_ns BIGINT                      -- when that was
);

-- ---- stores of earlier versions lack some columns

ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS process_first_request BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS accept_busy_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS accept_runqueue_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS pool_wait_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS loop_wait_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS loop_wait_low_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS loop_queued_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS samples_every_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS container_throttled_periods BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS container_cpu_quota_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS container_cpu_period_ns BIGINT;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS status_message VARCHAR;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS trace_state VARCHAR;
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS events
    STRUCT(time_ns BIGINT, "name" VARCHAR, attributes MAP(VARCHAR, VARCHAR))[];
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS links
    STRUCT(trace_id VARCHAR, span_id VARCHAR, attributes MAP(VARCHAR, VARCHAR))[];
ALTER TABLE hot_span ADD COLUMN IF NOT EXISTS left_out
    STRUCT(attributes BIGINT, events BIGINT, links BIGINT, shortened BIGINT);
ALTER TABLE series ADD COLUMN IF NOT EXISTS part_of MAP(VARCHAR, VARCHAR);
ALTER TABLE resource ADD COLUMN IF NOT EXISTS host_by VARCHAR;
ALTER TABLE resource ADD COLUMN IF NOT EXISTS handles STRUCT("key" VARCHAR, "value" VARCHAR, attribute VARCHAR)[];
ALTER TABLE resource ADD COLUMN IF NOT EXISTS sandbox BOOLEAN;
ALTER TABLE resource ADD COLUMN IF NOT EXISTS stand_in VARCHAR;
ALTER TABLE request ADD COLUMN IF NOT EXISTS container_id VARCHAR;
ALTER TABLE request ADD COLUMN IF NOT EXISTS host VARCHAR;
ALTER TABLE request ADD COLUMN IF NOT EXISTS join_reason VARCHAR;
ALTER TABLE request ADD COLUMN IF NOT EXISTS weight DOUBLE DEFAULT 1;
ALTER TABLE request ADD COLUMN IF NOT EXISTS planned DOUBLE DEFAULT 1;
ALTER TABLE request ADD COLUMN IF NOT EXISTS fair BOOLEAN DEFAULT TRUE;
ALTER TABLE request ADD COLUMN IF NOT EXISTS blind_spots UBIGINT[];
ALTER TABLE part ADD COLUMN IF NOT EXISTS place VARCHAR;
ALTER TABLE part ADD COLUMN IF NOT EXISTS calls BIGINT;
ALTER TABLE part ADD COLUMN IF NOT EXISTS dependency VARCHAR;
ALTER TABLE part ADD COLUMN IF NOT EXISTS dependency_type VARCHAR;
ALTER TABLE part ADD COLUMN IF NOT EXISTS statement VARCHAR;
ALTER TABLE stay ADD COLUMN IF NOT EXISTS ready_ns BIGINT;
ALTER TABLE sealed_file ADD COLUMN IF NOT EXISTS step_ns BIGINT;
ALTER TABLE series ADD COLUMN IF NOT EXISTS source VARCHAR;

-- Each cause that was blind in a request, of rows like those of `request` and `blind_spot` in the named tables.
CREATE OR REPLACE MACRO blind_in(requests, spots) AS TABLE
SELECT DISTINCT
    trace_id, span_id, start_ns, cause, unseen.service, facts, why, foreign_readings, unseen.host, agent_reads
FROM (SELECT trace_id, span_id, start_ns, unnest(blind_spots) AS spot FROM query_table(requests)) AS seen
JOIN query_table(spots) AS unseen ON unseen.spot = seen.spot
WHERE cause IS NOT NULL;

CREATE OR REPLACE VIEW blind AS FROM blind_in('request', 'blind_spot');
