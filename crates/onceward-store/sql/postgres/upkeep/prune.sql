-- upkeep.prune: forgets what may be forgotten. Rows that somebody has locked stay for the next time. Never anything
-- running or uncertain (G16), never a lease that is held, never a row whose token the clock has not passed (G4): the
-- next grant might draw it again.
--
-- now: one row: the clock, in microseconds since 1970; the others take their limits in time from it as a parameter,
-- so that the planner knows how much lies before them.
-- The others: one row, how many rows went.
-- once: $1 limit  $2 now. Index: once_by_retention.
-- leases: $1 limit  $2 until when given back or run out  $3 now. Reads the table: an index on times would cost every
--   renewal.
-- waiters: $1 limit  $2 now.
-- history: $1 limit  $2 until when. Index: history_by_time. Its rows never change, so their places (ctid) hold still.

-- step: now
SELECT (extract(epoch FROM {clock}) * 1000000)::bigint AS now

-- step: once
WITH over AS MATERIALIZED (
    SELECT o.namespace, o.key
    FROM {schema}.once o
    WHERE o.retain_until <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond' AND o.state IN ('done', 'failed', 'released')
      AND o.token < $2::bigint
    LIMIT $1::bigint
    FOR UPDATE OF o SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.once o
    USING over
    WHERE o.namespace = over.namespace AND o.key = over.key
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: leases
WITH over AS MATERIALIZED (
    SELECT l.namespace, l.key, l.slot
    FROM {schema}.lease l
    WHERE coalesce(l.released_at, l.expires_at + l.lock_delay_ms * interval '1 millisecond')
              <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
      AND l.token < $3::bigint
    LIMIT $1::bigint
    FOR UPDATE OF l SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.lease l
    USING over
    WHERE l.namespace = over.namespace AND l.key = over.key AND l.slot = over.slot
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: waiters
WITH over AS MATERIALIZED (
    SELECT w.namespace, w.key, w.session
    FROM {schema}.lease_waiter w
    WHERE w.expires_at <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
    LIMIT $1::bigint
    FOR UPDATE OF w SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.lease_waiter w
    USING over
    WHERE w.namespace = over.namespace AND w.key = over.key AND w.session = over.session
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: history
WITH over AS MATERIALIZED (
    SELECT h.ctid
    FROM {schema}.history h
    WHERE h.at <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
    LIMIT $1::bigint
    FOR UPDATE OF h SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.history h
    WHERE h.ctid = ANY (ARRAY (SELECT over.ctid FROM over))
    RETURNING 1
)
SELECT count(*) FROM gone
