-- Calls during whose stretch a TCP segment was sent again, at either end.

-- Per piece: how many segments, at least by the ends that were read.
-- makes: resent
-- reads: seen
-- only with: seen
CREATE OR REPLACE TEMP TABLE resent AS
SELECT piece_no, round(sum(high))::BIGINT AS segments,
       bool_or(peer) AS at_callee, bool_or(NOT peer) AS at_caller
FROM seen
WHERE piece_no IS NOT NULL AND signal = 'container.network.tcp.retransmits' AND high >= 0.5
GROUP BY ALL;
