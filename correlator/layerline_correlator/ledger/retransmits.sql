-- Calls during whose stretch a TCP segment was sent again, at either end.

-- Per piece: how many segments, at least by the ends that were read. What the other end had already was late, not lost: a full
-- link, or an answer that came after the kernel had asked again.
-- makes: resent
-- reads: seen
-- only with: seen
-- only where: seen: piece_no IS NOT NULL AND signal = 'container.network.tcp.retransmits'
CREATE OR REPLACE TEMP TABLE resent AS
WITH each_end AS (
    SELECT
        piece_no, peer,
        coalesce(sum(high) FILTER (signal = 'container.network.tcp.retransmits'), 0)
            - coalesce(sum(high) FILTER (signal = 'container.network.tcp.needless_retransmits'), 0) AS lost
    FROM seen
    WHERE piece_no IS NOT NULL
      AND signal IN ('container.network.tcp.retransmits', 'container.network.tcp.needless_retransmits')
    GROUP BY ALL
)
SELECT piece_no, round(sum(lost))::BIGINT AS segments, bool_or(peer) AS at_callee, bool_or(NOT peer) AS at_caller
FROM each_end WHERE lost >= 0.5
GROUP BY ALL;
