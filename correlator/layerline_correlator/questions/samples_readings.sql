-- What was read, by bin of time: how much counters grew, and the last level of each bin.
--
-- In: line_stretch, heard_line (summaries/stretches.sql); $bin_ns. Out: line, is_level, and lists by bin: when it began and ended,
-- how much.
WITH binned AS (
    SELECT
        line, is_level, to_ns // $bin_ns AS bin, min(from_ns) AS begins_ns, max(to_ns) AS ends_ns,
        CASE WHEN is_level THEN arg_max(amount, to_ns) ELSE sum(amount) END AS total
    FROM line_stretch SEMI JOIN heard_line USING (line)
    GROUP BY line, is_level, bin
)
SELECT
    line, is_level, list(begins_ns ORDER BY bin), list(ends_ns ORDER BY bin), list(total ORDER BY bin)
FROM binned GROUP BY line, is_level ORDER BY line;
