-- How many calls were late, or failed, for every step of five seconds in [$from_ns, $to_ns), and, beside each,
-- how many of its edge were in all of them (hits).
-- In: seen_call, call_usual. Out: judged_call (the calls, and what they showed), call_step.
CREATE OR REPLACE TEMP VIEW judged_call AS
SELECT
    seen_call.*,
    coalesce(seen_call.duration_ns >= late_ns, FALSE) OR coalesce(seen_call.gap_ns >= late_gap_ns, FALSE) AS late
FROM seen_call JOIN call_usual USING (caller, callee_type, callee, operation);

CREATE OR REPLACE TEMP TABLE call_step AS
SELECT caller, callee_type, callee, operation, start_ns - start_ns % 5_000_000_000 AS step_ns, count(*) AS calls,
       count(*) FILTER (late) AS late, count(*) FILTER (failed) AS failed,
       sum(count(*) FILTER (late OR failed)) OVER (PARTITION BY caller, callee_type, callee, operation) AS hits
FROM judged_call
WHERE start_ns >= $from_ns AND start_ns < $to_ns
GROUP BY caller, callee_type, callee, operation, step_ns;
