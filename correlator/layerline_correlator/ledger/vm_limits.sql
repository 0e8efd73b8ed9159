-- The virtual machine's own limits: its provider, or the driver, tells that one was reached; how much of a request that took
-- nobody knows.

-- When a machine had reached which of its limits: of its CPU (`what` = 'cpu'), its disks or its network. A level that a provider
-- reports is that of the time since the one before; credits that are spent stay so until the next report says otherwise.
-- makes: vm_full
-- reads: near_series, reading
-- only with: near_series
-- only where: near_series: signal IN ('system.cpu.credits', 'system.disk.limit_exceeded', 'system.disk.burst_balance', 'system.disk.limit_utilization', 'system.disk.throttled_operations', 'system.network.allowance_exceeded')
CREATE OR REPLACE TEMP TABLE vm_full AS
WITH
told AS (
    SELECT
        series.host, near_series.signal, series.attributes, value, time_ns,
        greatest(coalesce(lag(time_ns) OVER each, time_ns - seconds_long(60)), time_ns - longest_report_ns())
            AS since_ns,
        least(coalesce(lead(time_ns) OVER each, time_ns + longest_report_ns()), time_ns + longest_report_ns())
            AS until_next_ns
    FROM near_series
    JOIN series ON series.series = near_series.series
    JOIN point ON point.series = near_series.series
    WHERE near_series.signal IN ('system.cpu.credits', 'system.disk.limit_exceeded', 'system.disk.burst_balance',
                                 'system.disk.limit_utilization')
      AND time_ns BETWEEN $since_ns - longest_report_ns() AND $until_ns + longest_report_ns()
    WINDOW each AS (PARTITION BY near_series.series ORDER BY time_ns)
)
SELECT host, 'cpu' AS what, since_ns AS from_ns, until_next_ns AS to_ns,
       format('the machine has {:.1f} CPU credits left', value) AS said
FROM told WHERE signal = 'system.cpu.credits' AND value < 1
UNION ALL
SELECT host, 'disk', since_ns, time_ns, 'its provider says that more was asked of it than its limit of '
       || coalesce(attributes['disk.limit'], 'the disk')
FROM told WHERE signal = 'system.disk.limit_exceeded' AND value > 0
UNION ALL
SELECT host, 'disk', since_ns, time_ns,
       format('{:.0f} % of its burst balance are left for {}', value, coalesce(attributes['disk.limit'], 'the disk'))
FROM told WHERE signal = 'system.disk.burst_balance' AND value < 1
UNION ALL
SELECT host, 'disk', since_ns, time_ns,
       format('{:.0f} % of its limit of {} were used', value, coalesce(attributes['disk.limit'], 'the disk'))
FROM told WHERE signal = 'system.disk.limit_utilization' AND value >= 95
UNION ALL
SELECT host, 'disk', from_ns, to_ns, format('its provider delayed {:.0f} operations', rise)
FROM reading WHERE signal = 'system.disk.throttled_operations' AND rise >= 1
UNION ALL
SELECT host, 'network', from_ns, to_ns,
       format('its provider held up {:.0f} packets (allowance: {})', rise,
              coalesce(attributes['network.allowance'], 'network'))
FROM reading WHERE signal = 'system.network.allowance_exceeded' AND rise >= 1;

-- For how long of each piece the machine was at such a limit; `peer`: that at the other end of the call.
-- makes: vm_limit
-- reads: vm_full, stretch
-- only with: vm_full
CREATE OR REPLACE TEMP TABLE vm_limit AS
WITH
shared AS (
    SELECT
        stretch_no, piece_no, peer, stretch.host, what, said,
        overlap_ns(vm_full.from_ns, vm_full.to_ns, stretch.from_ns, stretch.to_ns) AS full_ns
    FROM stretch
    JOIN vm_full ON vm_full.host = stretch.host AND vm_full.from_ns < stretch.to_ns AND vm_full.to_ns > stretch.from_ns
    WHERE piece_no IS NOT NULL
),
-- Several limits may have been reached at once: the longest counts.
longest AS (FROM shared QUALIFY row_number() OVER (PARTITION BY stretch_no, what ORDER BY full_ns DESC, said) = 1)
SELECT piece_no, peer, host, what, sum(full_ns)::BIGINT AS full_ns, arg_max(said, full_ns) AS said
FROM longest
GROUP BY piece_no, peer, host, what;
