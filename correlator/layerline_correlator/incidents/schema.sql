-- Incidents, and the stretches of trouble of single operations that they are made of.

CREATE TABLE IF NOT EXISTS incident (
    incident   VARCHAR,
    start_ns   BIGINT,                    -- the first affected request's
    end_ns     BIGINT,                    -- the last one's; null while it is ongoing
    noticed_ns BIGINT,                    -- when it was known that these were too many
    told_ns    BIGINT,                    -- when `document` was written, null until then
    settled    BOOLEAN,                   -- nothing of it can change any more
    merged_into VARCHAR,                  -- the incident that it turned out to be part of
    document   VARCHAR                    -- JSON: what describe.py says of it
);

-- Requests judged until then were looked at for incidents. One row.
CREATE TABLE IF NOT EXISTS watched (judged_ns BIGINT);

CREATE TABLE IF NOT EXISTS trouble (
    trouble    VARCHAR,
    incident   VARCHAR,
    service    VARCHAR,
    operation  VARCHAR,
    start_ns   BIGINT,
    end_ns     BIGINT,                    -- null while it is ongoing
    noticed_ns BIGINT,
    seen_ns    BIGINT,                    -- the end of the last step that was looked at
    base_ns    BIGINT,                    -- the usual duration when it began
    slow_ns    BIGINT,                    -- a request that takes so long is affected
    signs      VARCHAR[],                 -- 'slow', 'tail', 'error', 'cause', 'late_calls', 'failed_calls', 'slo'
    -- A request that loses so much to a cause is affected too.
    causes     STRUCT(cause VARCHAR, service VARCHAR, address VARCHAR, least_ns BIGINT)[],
    lasting    BOOLEAN,                   -- it lasts so long, or burns so slowly, that it is usual
    slo        VARCHAR,                   -- whose budget burns; null where it was found without one
    split_from VARCHAR,                   -- the incident that it was part of until another cause had taken over
    -- When each sign was seen too often; `to_ns` is null while it is.
    stretches  STRUCT(kind VARCHAR, cause VARCHAR, service VARCHAR, address VARCHAR,
                      from_ns BIGINT, noticed_ns BIGINT, to_ns BIGINT)[]
);
ALTER TABLE trouble ADD COLUMN IF NOT EXISTS split_from VARCHAR;
ALTER TABLE trouble ADD COLUMN IF NOT EXISTS stretches STRUCT(
    kind VARCHAR, cause VARCHAR, service VARCHAR, address VARCHAR, from_ns BIGINT, noticed_ns BIGINT, to_ns BIGINT)[];

-- Requests that made calls that were late, or failed, while such calls were a sign of trouble (late_calls.py); of each
-- trouble the first 10,000.
CREATE TABLE IF NOT EXISTS hit_by_call (
    trace_id  VARCHAR,
    span_id   VARCHAR,                    -- of the request
    start_ns  BIGINT,
    service   VARCHAR,
    operation VARCHAR
);

-- When an operation was not itself: what it did then is not its usual.
CREATE OR REPLACE VIEW unusual AS
SELECT service, operation, start_ns, coalesce(end_ns, 9_223_372_036_854_775_807) AS end_ns
FROM trouble WHERE NOT lasting;

CREATE OR REPLACE VIEW ordinary_request AS
SELECT request.*
FROM request ANTI JOIN unusual
    ON unusual.service = request.service AND unusual.operation = request.operation
    AND request.start_ns >= unusual.start_ns AND request.start_ns < unusual.end_ns;

-- The service that a dependency's part is known by besides its cause, as a usual part is matched (judge.LedgerPart.key).
CREATE OR REPLACE MACRO address_of(entity_type, entity_id) AS CASE
    WHEN entity_type = 'service' THEN entity_id ELSE ''
END;

-- What is promised of a service's requests: so large a share of them succeeds, within so much time.
CREATE TABLE IF NOT EXISTS slo (
    slo          VARCHAR,
    service      VARCHAR,
    operation    VARCHAR,                 -- null: all operations of the service
    objective    DOUBLE,                  -- 0.99
    threshold_ns BIGINT                   -- null: only failures count
);

-- The windows that burn rates are taken over, in seconds, and how many rows of a group count in each: those that began
-- within it before now_ns, and for which `counts` holds.
CREATE OR REPLACE MACRO burn_windows_s() AS [300, 1_800, 3_600, 21_600, 259_200];
CREATE OR REPLACE MACRO count_in_burn_windows(start_ns, counts, now_ns) AS [
    count(*) FILTER (counts AND start_ns >= now_ns - 300_000_000_000),
    count(*) FILTER (counts AND start_ns >= now_ns - 1_800_000_000_000),
    count(*) FILTER (counts AND start_ns >= now_ns - 3_600_000_000_000),
    count(*) FILTER (counts AND start_ns >= now_ns - 21_600_000_000_000),
    count(*) FILTER (counts AND start_ns >= now_ns - 259_200_000_000_000)];
