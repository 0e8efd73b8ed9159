-- What was received and worked out, summed up per minute. A minute is its number since 1970 (nanoseconds // 60e9).
-- A minute with a row in `stale_minute` (store/schema.sql) may be out of date: questions read its rows one by one.
-- Everything adds up over minutes, so that any two windows can be compared. `weight`: how many requests or calls these
-- stand for, where only some were worked out; otherwise the same as their count.

-- The values of one series. Steps are the times between two values; those across the end of the minute belong to none.
CREATE TABLE IF NOT EXISTS point_minute (
    minute         BIGINT,
    series         VARCHAR,
    points         BIGINT,
    first_ns       BIGINT,
    last_ns        BIGINT,
    first_start_ns BIGINT,                -- the start time that came with the first value
    first_value    DOUBLE,
    last_value     DOUBLE,
    lowest         DOUBLE,
    highest        DOUBLE,
    rise           DOUBLE,                -- of counters: how much it grew from the first to the last value
    held           DOUBLE,                -- of gauges: the sum of value × ns from the first to the last value
    step_ns        BIGINT,                -- the median step; null where there is one value
    long_steps     BIGINT[]               -- the steps, in ns, longer than twice that; null where there are none
);

-- The spans of one sender that were measured in the same way.
CREATE TABLE IF NOT EXISTS span_minute (
    minute           BIGINT,
    resource         VARCHAR,
    account          VARCHAR,             -- 'measured', or why the thread's time was not
    spans            BIGINT,
    first_ns         BIGINT,              -- the first start
    last_ns          BIGINT,              -- the last end
    threshold        VARCHAR,             -- of sampling at the source, the highest
    address          VARCHAR,             -- at which it was called, where it answered
    cpu_ns           BIGINT,
    blocks_read      BIGINT,
    throttled_ns     BIGINT               -- the most that any span saw of its container's
);

-- Calls from one service to another or to a dependency, by the minute in which the call began.
CREATE TABLE IF NOT EXISTS edge_minute (
    minute      BIGINT,
    caller      VARCHAR,
    callee_type VARCHAR,                  -- 'service' | 'dependency' (seen only from outside)
    callee      VARCHAR,
    calls       BIGINT,
    errors      BIGINT,
    weight      DOUBLE,
    duration_ns HUGEINT,                  -- of the caller's spans, the sum
    answered    BIGINT,                   -- calls of which the answering span is known
    gap_ns      HUGEINT,                  -- of those: what the call took longer than its answer, the sum
    durations   MAP(SMALLINT, UBIGINT),   -- how many calls by duration (duration_class)
    operation   VARCHAR,                  -- the answering span's name, else the caller's; null where an earlier version wrote it
    gaps        MAP(SMALLINT, UBIGINT)    -- how many of the answered calls by gap
);
ALTER TABLE edge_minute ADD COLUMN IF NOT EXISTS operation VARCHAR;
ALTER TABLE edge_minute ADD COLUMN IF NOT EXISTS gaps MAP(SMALLINT, UBIGINT);

-- Requests of one operation and sender, by the minute in which they began.
CREATE TABLE IF NOT EXISTS request_minute (
    minute         BIGINT,
    service        VARCHAR,
    operation      VARCHAR,
    root           BOOLEAN,
    resource       VARCHAR,
    container_id   VARCHAR,
    host           VARCHAR,
    requests       BIGINT,
    errors         BIGINT,
    slow           BIGINT,
    orphans        BIGINT,                -- whose caller's span was never received
    left_out       BIGINT,                -- which get no ledger, because only a sample does
    weight         DOUBLE,                -- how many requests the ledgers of these stand for
    first_ns       BIGINT,                -- the first and the last start
    last_ns        BIGINT,
    duration_ns    HUGEINT,
    unexplained_ns DOUBLE,                -- of those for which the ledgers stand
    durations      MAP(SMALLINT, UBIGINT) -- how many requests by duration (duration_class)
);

-- What requests lost to a cause ('unexplained' too), by the minute in which they began and the one in which it passed: a
-- part is spread evenly over its request.
CREATE TABLE IF NOT EXISTS part_minute (
    minute       BIGINT,
    passed       BIGINT,                  -- the minute in which the time passed
    service      VARCHAR,                 -- these five are the request's
    operation    VARCHAR,
    root         BOOLEAN,
    resource     VARCHAR,
    container_id VARCHAR,
    host         VARCHAR,
    cause        VARCHAR,
    entity_type  VARCHAR,                 -- whom the cause blames; null for what is unexplained
    entity_id    VARCHAR,
    requests     BIGINT,                  -- that have such a part; 0 where they began in another minute
    weight       DOUBLE,
    lost_ns      DOUBLE,
    low_ns       DOUBLE,
    high_ns      DOUBLE
);

-- Where requests spent their own time, by the minute in which they began: of the requests for which the ledgers stand. (An
-- earlier version wrote the sums of the ledgers that there were.)
CREATE TABLE IF NOT EXISTS stay_minute (
    minute          BIGINT,
    service         VARCHAR,              -- these six are the request's
    operation       VARCHAR,
    root            BOOLEAN,
    resource        VARCHAR,
    container_id    VARCHAR,
    host            VARCHAR,
    at_service      VARCHAR,              -- where the time passed
    at_container_id VARCHAR,
    at_host         VARCHAR,
    own_ns          HUGEINT,
    open_ns         HUGEINT,              -- of it, what no cause explains
    ready_ns        HUGEINT
);

-- In how many requests of a service a cause could not be seen, and where.
CREATE TABLE IF NOT EXISTS blind_minute (
    minute           BIGINT,
    request_service  VARCHAR,
    cause            VARCHAR,
    anywhere         BOOLEAN,             -- the requests in which it was blind anywhere: the columns up to the last are null
    service          VARCHAR,
    facts            VARCHAR[],
    why              VARCHAR,
    foreign_readings BOOLEAN,
    host             VARCHAR,
    agent_reads      BOOLEAN,
    requests         DOUBLE               -- for which the ledgers stand
);

-- ---- quarters of an hour: the same of fifteen minutes, by their first. In `point_quarter` a series that was not read steadily
-- keeps its minutes.

CREATE TABLE IF NOT EXISTS point_quarter AS SELECT * FROM point_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS span_quarter AS SELECT * FROM span_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS edge_quarter AS SELECT * FROM edge_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS request_quarter AS SELECT * FROM request_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS part_quarter AS SELECT * FROM part_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS stay_quarter AS SELECT * FROM stay_minute LIMIT 0;
CREATE TABLE IF NOT EXISTS blind_quarter AS SELECT * FROM blind_minute LIMIT 0;

-- The quarters that are what their minutes are. Whatever sums a minute up anew, or deletes it, takes its quarter out.
CREATE TABLE IF NOT EXISTS summed_quarter (
    kind    VARCHAR,                      -- point | span | request
    quarter BIGINT                        -- its first minute
);

-- ---- words

CREATE OR REPLACE MACRO minute_of(ns) AS ns // 60_000_000_000;
CREATE OR REPLACE MACRO minute_begins(minute) AS minute * 60_000_000_000;
CREATE OR REPLACE MACRO quarter_of(minute) AS minute // 15 * 15;

-- Durations are counted in classes, each 1 % wider than the one before; the middle of a class is less than 0.6 % from all
-- durations in it. Class 0 is up to a nanosecond.
CREATE OR REPLACE MACRO duration_class(ns) AS
    CASE WHEN ns <= 1 THEN 0 ELSE round(ln(ns) / ln(1.01)) END::SMALLINT;
CREATE OR REPLACE MACRO duration_of(class) AS round(pow(1.01, class))::BIGINT;

-- How the thread of a span was measured: 'measured', or why it was not.
CREATE OR REPLACE MACRO measured_by(account, account_reason, thread_cpu_ns) AS
    CASE WHEN coalesce(account, 'thread') IN ('thread', 'task') AND thread_cpu_ns IS NOT NULL THEN 'measured'
         ELSE coalesce(account_reason, CASE WHEN account IS NULL THEN 'not sent by layerline run' ELSE 'unknown' END)
    END;
