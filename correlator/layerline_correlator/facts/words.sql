-- Words that DuckDB lacks, for all our SQL. Made when a store is opened.

-- The smaller of two, null where one is: least() passes over null, and what was not measured would become a number.
-- (A macro copies what it is given, once for each time that it says its name: these say it as seldom as they can.)
CREATE OR REPLACE MACRO least_or_null(a, b) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN least(a, b) END;

-- Not negative; null stays null, where greatest(0, x) would make it 0.
CREATE OR REPLACE MACRO not_below_zero(x) AS CASE WHEN x < 0 THEN 0 ELSE x END;

-- The largest figure that a sender is believed: 46 days of nanoseconds, so that sums of it stay whole numbers.
CREATE OR REPLACE MACRO largest_figure() AS 4_000_000_000_000_000;
CREATE OR REPLACE MACRO in_bounds(x) AS
    CASE WHEN x IS NOT NULL THEN least(greatest(x, 0), largest_figure()) END;

-- A share as a sender wrote it, from 0 to 1; null where it is no number.
CREATE OR REPLACE MACRO share_of(text) AS CASE WHEN isfinite(try_cast(text AS DOUBLE))
    THEN greatest(0, least(1, try_cast(text AS DOUBLE))) END;

-- ---- time, in nanoseconds

CREATE OR REPLACE MACRO ms_of(count) AS count::BIGINT * 1_000_000;
CREATE OR REPLACE MACRO seconds_long(count) AS count::BIGINT * 1_000_000_000;

-- How long two stretches of time overlap.
CREATE OR REPLACE MACRO overlap_ns(from_a, to_a, from_b, to_b) AS
    greatest(0, least(to_a, to_b) - greatest(from_a, from_b));

-- The seconds that a stretch touches, numbered; two stretches are joined by an equality of these, which hashes. A pair that
-- meets in several seconds is taken in the first that both touch.
CREATE OR REPLACE MACRO seconds_touched(from_ns, to_ns) AS
    range(from_ns // seconds_long(1), (to_ns - 1) // seconds_long(1) + 1);
CREATE OR REPLACE MACRO first_second_of_both(from_a, from_b) AS greatest(from_a, from_b) // seconds_long(1);

-- ---- OpenTelemetry's numbers (opentelemetry.proto.trace.v1: Span.SpanKind, Status.StatusCode)

CREATE OR REPLACE MACRO is_server(kind) AS kind = 2;
CREATE OR REPLACE MACRO is_client(kind) AS kind = 3;
-- The side of a call that waits for it, or sends it: CLIENT or PRODUCER.
CREATE OR REPLACE MACRO is_caller(kind) AS kind IN (3, 4);
-- A span that begins a request in its process when its parent is elsewhere: SERVER or CONSUMER.
CREATE OR REPLACE MACRO is_entry(kind) AS kind IN (2, 5);
CREATE OR REPLACE MACRO failed(status) AS status = 2;

-- Whom a call was made to, by its address, and what that is: "postgresql". Both null where its caller does not say.
CREATE OR REPLACE MACRO called_address(attributes) AS coalesce(
    attributes['server.address'] || coalesce(':' || attributes['server.port'], ''),
    attributes['net.peer.name'] || coalesce(':' || attributes['net.peer.port'], ''),
    regexp_extract(coalesce(attributes['url.full'], attributes['http.url'], ''), '^[a-z+]+://([^/?#]+)', 1));
CREATE OR REPLACE MACRO called_system(attributes) AS coalesce(
    attributes['db.system.name'], attributes['db.system'], attributes['rpc.system'], attributes['messaging.system'],
    attributes['peer.service']);

-- ---- what failed

-- OTLP's SeverityNumber: ERROR and FATAL.
CREATE OR REPLACE MACRO is_error(severity) AS severity >= 17;

-- The status code of an answer: of HTTP, and of gRPC by number or (OpenTelemetry 1.38 and later) by name.
CREATE OR REPLACE MACRO http_code(attributes) AS try_cast(
    coalesce(attributes['http.response.status_code'], attributes['http.status_code']) AS INTEGER);
CREATE OR REPLACE MACRO grpc_code(attributes) AS CASE
    WHEN attributes['rpc.grpc.status_code'] IS NOT NULL THEN [
        'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS',
        'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED',
        'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'
    ][try_cast(attributes['rpc.grpc.status_code'] AS INTEGER) + 1]
    WHEN coalesce(attributes['rpc.system.name'], attributes['rpc.system']) = 'grpc'
    THEN upper(attributes['rpc.response.status_code']) END;

-- OTLP's status, where an instrumentation leaves it unset although the answer was an error of the server (OpenTelemetry,
-- "HTTP spans" and "gRPC": these codes are to set it).
CREATE OR REPLACE MACRO status_seen(status, attributes) AS CASE
    WHEN status = 0 AND (
        coalesce(http_code(attributes) BETWEEN 500 AND 599, FALSE)
        OR coalesce(grpc_code(attributes) IN (
            'UNKNOWN', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'), FALSE)
    ) THEN 2::TINYINT ELSE status END;

-- The last exception that was recorded within a span; null where there is none.
CREATE OR REPLACE MACRO last_exception(events) AS list_transform(
    list_filter(events, lambda event: event."name" = 'exception')[-1:],
    lambda event: {
        'type': event.attributes['exception.type'], 'message': event.attributes['exception.message']
    }
)[1];

-- More CPUs than any machine has, where nothing says how many.
CREATE OR REPLACE MACRO many_cpus() AS 1024;

-- From which share of its limit on something is at it: readings are means over their intervals.
CREATE OR REPLACE MACRO full_ratio() AS 0.8;

-- From so many a second on, faults that wait for a device, and pages that are read again, slow a process down.
CREATE OR REPLACE MACRO many_faults_per_s() AS 10;
CREATE OR REPLACE MACRO many_refaults_per_s() AS 100;

-- Cloud providers report as seldom as every five minutes.
CREATE OR REPLACE MACRO longest_report_ns() AS seconds_long(310);

-- ---- what senders write

-- The kernel's lists of CPUs, "0-2,5": [0, 1, 2, 5].
CREATE OR REPLACE MACRO cpus_of(text) AS flatten(list_transform(
    regexp_extract_all(text, '\d{1,4}(-\d{1,4})?'),
    lambda part: range(split_part(part, '-', 1)::BIGINT,
                       coalesce(nullif(split_part(part, '-', 2), ''), split_part(part, '-', 1))::BIGINT + 1)));

-- The address at which a span says that its process was called; null where that is a name.
CREATE OR REPLACE MACRO local_address(attributes) AS nullif(regexp_extract(
    coalesce(attributes['network.local.address'], attributes['net.sock.host.addr'],
             attributes['net.host.ip'], attributes['server.address']),
    '^((\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+)$'), '');

-- The name of the machine that somebody speaks of. In a pod `host.name` is the pod's name, unless its network is the machine's.
CREATE OR REPLACE MACRO machine_name(attributes) AS coalesce(
    nullif(attributes['k8s.node.name'], ''),
    CASE WHEN attributes['host.name'] IS DISTINCT FROM attributes['k8s.pod.name']
         THEN nullif(attributes['host.name'], '') END);

-- An id that stands for a container of which nobody says the real one (handles.py): real ids have no slash.
CREATE OR REPLACE MACRO is_stand_in(container_id) AS contains(container_id, '/');

-- Who sent a span, as far as sending it again goes: its process where it is named, else its service. (`instance` is the
-- resource itself where nothing names the process.)
CREATE OR REPLACE MACRO sender_of(resource, service, instance) AS
    CASE WHEN instance = resource THEN coalesce(nullif(service, ''), resource) ELSE instance END;

-- ---- words of single rooms

-- A list of neighbours, those with the least `place_ns` first. (Sorting lists costs a third of an aggregate with ORDER BY.)
CREATE OR REPLACE MACRO in_order(unordered) AS list_transform(
    list_sort(unordered),
    lambda one: {'entity_type': one.entity_type, 'entity_id': one.entity_id, 'ran_ns': one.ran_ns});

-- The same machine may be told of by its boot id (our agent), its machine id or its name (others): the first is best.
CREATE OR REPLACE MACRO host_rank(host_by) AS
    CASE host_by
        WHEN 'layerline.boot_id' THEN 1
        WHEN 'host.id' THEN 2
        WHEN 'host.name' THEN 3
        WHEN 'k8s.node.name' THEN 3
        ELSE 4
    END;

CREATE OR REPLACE MACRO seconds_text(ns) AS format('{:.1f} s', ns / 1e9);

-- How far to move a callee so that it lies within its caller: the least that fits, and where it is longer than its
-- caller the least that makes it cover the caller.
CREATE OR REPLACE MACRO least_shift(child_from, child_to, parent_from, parent_to) AS
    CASE
        WHEN child_to - child_from <= parent_to - parent_from THEN
            CASE WHEN child_from < parent_from THEN parent_from - child_from
                 WHEN child_to > parent_to     THEN parent_to - child_to
                 ELSE 0 END
        WHEN child_from > parent_from THEN parent_from - child_from
        WHEN child_to < parent_to     THEN parent_to - child_to
        ELSE 0
    END;

-- Backwards from the end: at time t the child that finished last at or before t was being waited for, and then t is
-- where that child began. `requested` is left out, so that a ring of spans cannot go round. `begin_ns` is the first t.
CREATE OR REPLACE MACRO picked_of(kids, begin_ns, from_ns, to_ns, requested) AS
    list_reduce(  -- noqa: PRS
        list_prepend(
            {'t': begin_ns,
             'picks': CAST([] AS STRUCT("no" BIGINT, from_ns BIGINT, to_ns BIGINT, same_thread BOOLEAN)[])},
            list_transform(kids, lambda kid: {'t': 0::BIGINT, 'picks': [kid]})
        ),
        lambda seen, next:
            CASE
                WHEN next.picks[1]."no" <> requested
                 AND least(next.picks[1].to_ns, to_ns) <= seen.t
                 AND greatest(next.picks[1].from_ns, from_ns) < least(next.picks[1].to_ns, to_ns)
                THEN {
                    't': greatest(next.picks[1].from_ns, from_ns),
                    'picks': list_append(seen.picks, {
                        'no': next.picks[1]."no",
                        'from_ns': greatest(next.picks[1].from_ns, from_ns),
                        'to_ns': least(next.picks[1].to_ns, to_ns),
                        'same_thread': next.picks[1].same_thread
                    })
                }
                ELSE seen
            END
    );

-- Whom a span waited for, of its children with the latest end first. A list is copied whenever something is added to it: the
-- children are taken 256 at a time, or the cost would grow with the square of their number.
CREATE OR REPLACE MACRO waited_for(kids, from_ns, to_ns, requested) AS
    list_reduce(  -- noqa: PRS
        list_prepend(
            {'t': to_ns, 'picks': CAST([] AS STRUCT("no" BIGINT, from_ns BIGINT, to_ns BIGINT, same_thread BOOLEAN)[])},
            list_transform(range(0, len(kids), 256),
                           lambda done: {'t': 0::BIGINT, 'picks': kids[done + 1 : done + 256]})
        ),
        lambda seen, part: list_transform(
            [picked_of(part.picks, seen.t, from_ns, to_ns, requested)],
            lambda found: {'t': found.t, 'picks': list_concat(seen.picks, found.picks)}
        )[1]
    ).picks;

-- How many CPUs a quota held back at once, at least 1: in each throttled period it withheld a period from each of them,
-- less the quota. Null where the periods were not counted.
CREATE OR REPLACE MACRO cpus_held_back(throttled_ns, periods, period_ns, quota_cpus) AS
    CASE WHEN periods > 0 AND period_ns > 0 AND quota_cpus > 0
         THEN greatest(1, throttled_ns / (periods::DOUBLE * period_ns) + quota_cpus) END;

-- The end of a sentence that blames a CPU limit: how large it is, and whose, where it is not the container's own.
CREATE OR REPLACE MACRO limit_of(cpus, of_cgroup) AS
    coalesce(format('; {} is {:.2g} CPU', coalesce('the limit of ' || of_cgroup || ', above it,', 'its limit'), cpus),
             '; the limit is that of ' || of_cgroup || ', above it', '');

-- The beginning of a sentence that blames a CPU limit by how much of it was used, over which interval.
CREATE OR REPLACE MACRO used_of_limit(ratio, usual_ratio, interval_ns, cpus, of_cgroup) AS format(
    'it used {:.0f} % of {}{}, by readings every {:.0f} s{}',
    100 * least(ratio, 9.99),
    coalesce('the CPU limit of ' || of_cgroup || ', above it', 'its CPU limit'), coalesce(format(' of {:.2g} CPU', cpus), ''),
    greatest(1, interval_ns / 1e9), coalesce(format(', usually {:.0f} %', 100 * usual_ratio), ''));

-- The same of a limit on something else, given in words: whose limit it is.
CREATE OR REPLACE MACRO whose_limit(of_cgroup) AS
    coalesce('the limit of ' || of_cgroup || ', above the container,', 'its limit');

-- Was a thread seen waiting for a lock? Two looks say so; one does, where it slept only a few times and no look saw
-- anything else.
CREATE OR REPLACE MACRO seen_at_lock(lock_looks, asleep, switches) AS
    lock_looks >= 2 OR (lock_looks = 1 AND asleep = 1 AND switches <= 4);
