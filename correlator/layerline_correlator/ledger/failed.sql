-- Traces that could not be worked out, and why. In: $ids, $to_ns, $tries (of each), $lacks, $why, $now_ns.
DELETE FROM failed WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]));

INSERT INTO failed BY NAME
SELECT
    unnest($ids::VARCHAR[]) AS trace_id, unnest($to_ns::BIGINT[]) AS to_ns, unnest($tries::BIGINT[]) AS tries,
    $lacks::VARCHAR AS lacks, $why::VARCHAR AS why, $now_ns::BIGINT AS failed_ns;
