-- Two words that DuckDB lacks: its least() and greatest() pass over NULL, and what was not measured would become 0.
CREATE OR REPLACE MACRO smaller(a, b) AS CASE WHEN a <= b THEN a WHEN b < a THEN b END;
-- A figure that a stranger sent: not negative, and at most 46 days of nanoseconds, so that sums of it stay whole numbers.
CREATE OR REPLACE MACRO in_bounds(x) AS CASE WHEN x < 0 THEN 0 WHEN x > 4_000_000_000_000_000 THEN 4_000_000_000_000_000 ELSE x END;
CREATE OR REPLACE MACRO not_below_zero(x) AS CASE WHEN x < 0 THEN 0 ELSE x END;

-- The kernel's lists of CPUs, "0-2,5": [0, 1, 2, 5].
CREATE OR REPLACE MACRO cpus_of(text) AS flatten(list_transform(
    regexp_extract_all(text, '\d{1,4}(-\d{1,4})?'),
    lambda part: range(split_part(part, '-', 1)::BIGINT,
                       coalesce(nullif(split_part(part, '-', 2), ''), split_part(part, '-', 1))::BIGINT + 1)));

-- What is kept: what came in, and the ledger worked out from it. Times are nanoseconds since 1970, UTC.
-- No unique index: a span or point delivered twice is dropped when it is written (store.py), which is cheaper.

-- Who sent it. One row per distinct set of resource attributes; the first seen stays.
CREATE TABLE IF NOT EXISTS resource (
    resource     VARCHAR,                 -- key over the attributes
    service      VARCHAR,                 -- service.name, null for containers and hosts themselves
    instance     VARCHAR,                 -- one process: boot id and pid, else service.instance.id, else the resource
    container_id VARCHAR,                 -- container.id
    host         VARCHAR,                 -- boot id, else host.id, else host.name
    in_container BOOLEAN,                 -- null where nobody looked
    cpus         BIGINT,                  -- how many CPUs it may use, by affinity and cpuset
    attributes   MAP(VARCHAR, VARCHAR),
    seen_ns      BIGINT                   -- when it was first received
);

-- One OpenTelemetry span. The columns after `slices` are the figures of layerline.attributes.SPAN_FIGURES.
CREATE TABLE IF NOT EXISTS span (
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
    attributes                   MAP(VARCHAR, VARCHAR)
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
    attributes  MAP(VARCHAR, VARCHAR)
);

-- The values as they came. Readings (increases over intervals) are worked out from them when asked for,
-- so that points that come late or twice do no harm.
CREATE TABLE IF NOT EXISTS point (
    series   VARCHAR,
    start_ns BIGINT,
    time_ns  BIGINT,
    value    DOUBLE
);

CREATE TABLE IF NOT EXISTS event (
    resource   VARCHAR,
    time_ns    BIGINT,
    name       VARCHAR,
    body       VARCHAR,
    attributes MAP(VARCHAR, VARCHAR)
);

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
    join_method      VARCHAR,
    join_confidence  DOUBLE,
    judged_ns        BIGINT               -- when it was worked out
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
    calls       BIGINT                    -- of a dependency: how many calls the request made there
);

CREATE TABLE IF NOT EXISTS blind (
    trace_id VARCHAR,
    span_id  VARCHAR,
    start_ns BIGINT,
    cause    VARCHAR,
    service  VARCHAR,                     -- where
    facts    VARCHAR[],                   -- what was not measured there: any one of these would do
    why      VARCHAR                      -- what is known about why, null where nothing is
);

-- ---- stores of earlier versions lack some columns

ALTER TABLE span ADD COLUMN IF NOT EXISTS process_first_request BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS accept_busy_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS accept_runqueue_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS pool_wait_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS loop_wait_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS loop_wait_low_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS loop_queued_ns BIGINT;
ALTER TABLE span ADD COLUMN IF NOT EXISTS samples_every_ns BIGINT;
ALTER TABLE part ADD COLUMN IF NOT EXISTS place VARCHAR;
ALTER TABLE part ADD COLUMN IF NOT EXISTS calls BIGINT;

-- ---- who is who

-- The newest description of each container: from the agent, which knows names, else from the spans themselves.
CREATE OR REPLACE VIEW container AS
SELECT
    container_id,
    -- The agent knows the machine; a stranger inside takes the container's own name for one.
    coalesce(arg_max(host, seen_ns) FILTER (attributes['container.name'] IS NOT NULL),
             arg_max(host, seen_ns) FILTER (attributes['layerline.boot_id'] IS NOT NULL),
             arg_max(host, seen_ns))                              AS host,
    arg_max(attributes['container.name'], seen_ns)                AS name,
    arg_max(attributes['container.image.name'], seen_ns)          AS image,
    arg_max(attributes['container.label.com.docker.compose.service'], seen_ns) AS compose_service,
    arg_max(attributes, seen_ns) FILTER (attributes['container.name'] IS NOT NULL) AS attributes,
    bool_or(attributes['container.name'] IS NOT NULL)             AS described
FROM resource
WHERE container_id IS NOT NULL
GROUP BY container_id;

-- Where a process runs. Who sends a container's id but not the machine's is on the machine that the agent found that
-- container on; who sends neither is known by its host name, which inside a container is the short container id.
CREATE OR REPLACE VIEW owner AS
SELECT
    resource.* EXCLUDE (container_id, host, in_container),
    coalesce(resource.container_id, by_name.container_id)                    AS container_id,
    CASE WHEN attributes['layerline.boot_id'] IS NOT NULL THEN resource.host
         ELSE coalesce(by_id.host, by_name.host, resource.host) END          AS host,
    CASE WHEN coalesce(resource.container_id, by_name.container_id) IS NOT NULL THEN true
         ELSE in_container END                                               AS in_container,
    CASE WHEN resource.container_id IS NOT NULL THEN 'container.id'
         WHEN by_name.container_id IS NOT NULL  THEN 'host.name' END         AS join_method
FROM resource
LEFT JOIN (SELECT container_id, host FROM container WHERE described) AS by_id
    ON by_id.container_id = resource.container_id
LEFT JOIN (SELECT left(container_id, 12) AS short_id, any_value(container_id) AS container_id, any_value(host) AS host
           FROM container WHERE described GROUP BY ALL HAVING count(*) = 1) AS by_name
    ON resource.container_id IS NULL AND by_name.short_id = resource.attributes['host.name'];

CREATE OR REPLACE VIEW host AS
SELECT
    host,
    arg_max(attributes['host.id'], seen_ns) FILTER (NOT coalesce(in_container, false))   AS host_id,
    arg_max(attributes['host.name'], seen_ns) FILTER (NOT coalesce(in_container, false)) AS name,
    arg_max(attributes, seen_ns) FILTER (service IS NULL AND container_id IS NULL) AS attributes,
    bool_or(service IS NULL)                                      AS described
FROM resource
WHERE host IS NOT NULL
GROUP BY host;

-- ---- tags

-- An attribute that is a list was written down as JSON: each of its items is a value.
CREATE OR REPLACE MACRO values_in(text) AS
    CASE WHEN text IS NULL THEN [] WHEN text LIKE '[%]' AND json_valid(text) THEN json_extract_string(text, '$[*]') ELSE [text] END;
-- The values of a tag: its own, else its container's attribute or Docker label, else its host's.
CREATE OR REPLACE MACRO tag_of(own, of_container, of_host, key) AS values_in(coalesce(
    own[key], of_container[key], of_container['container.label.' || key], own['container.label.' || key], of_host[key]));
-- `*` came as `%` (tagquery/condition.py).
CREATE OR REPLACE MACRO has_value(listed, pattern) AS
    coalesce(len(list_filter(listed, lambda one: one LIKE pattern ESCAPE '\')) > 0, false);

-- Where the tags of each sender stand. What the agent says of a container counts as it said it last.
CREATE OR REPLACE VIEW tagged AS
SELECT
    resource.resource, service, resource.container_id, coalesce(resource.host, container.host) AS host,
    CASE WHEN service IS NOT NULL OR container.attributes IS NULL THEN resource.attributes END AS own,
    container.attributes AS of_container, host.attributes AS of_host
FROM resource
LEFT JOIN container ON container.container_id = resource.container_id
LEFT JOIN host ON host.host = coalesce(resource.host, container.host);
