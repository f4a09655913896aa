-- upkeep.prune: forgets what may be forgotten. Rows that somebody has locked stay for the next time. Never anything
-- running or uncertain (G16), never a lease that is held, never a row whose token the clock has not passed (G4): the
-- next grant might draw it again.
--
-- now: one row: the clock, in microseconds since 1970; the others take their limits in time from it as a parameter,
-- so that the planner knows how much lies before them.
-- pages: one row: how many pages the tables once and lease have.
-- sweep: writes down which claims have run out, so that what is open need not be looked for among all that was claimed.
--   $1 limit  $2 now  $3 the reason written  $4 how far it had come. Reads what was claimed since then. Index:
--   once_claimed. How far it has come stays an hour behind, for claims in transactions that are still open.
-- hidden: takes back how far the sweep has come, to the oldest claim on some pages that is open and lies before that: a
--   wrong clock has hidden it. $1 $2 the first place, and the one behind the last. One row: how many there are.
-- The others: one row, how many rows went.
-- once, untold, leases: read some pages of the table, from one place up to before another: an index on times would be
--   written by every outcome and every renewal.
--   once: $1 limit  $2 now  $3 $4 the places. What the rows told of themselves goes to the history.
--   untold: $1 limit  $2 until when history may be forgotten  $3 $4 the places.
--   leases: $1 limit  $2 until when given back or run out  $3 $4 the places  $5 now. What nobody took over after its
--     holder was lost has its end told nowhere yet: that goes to the history.
-- waiters: $1 limit  $2 now.
-- history: $1 limit  $2 until when. Index: history_by_time. Its rows never change, so their places (ctid) hold still.

-- step: now
SELECT (extract(epoch FROM {clock}) * 1000000)::bigint AS now

-- step: pages
SELECT pg_relation_size('{schema}.once') / s.bytes AS once, pg_relation_size('{schema}.lease') / s.bytes AS lease
FROM (SELECT current_setting('block_size')::bigint AS bytes) s

-- step: sweep
WITH open AS MATERIALIZED (
    SELECT o.namespace, o.key, o.claimed_at
    FROM {schema}.once o
    WHERE o.state = 'running' AND o.claimed_at >= timestamptz 'epoch' + $4::bigint * interval '1 microsecond'
), lost AS MATERIALIZED (
    SELECT o.namespace, o.key, o.token, o.owner, o.claimed_at, o.expires_at
    FROM open
    JOIN {schema}.once o ON o.namespace = open.namespace AND o.key = open.key
    WHERE o.state = 'running' AND o.expires_at <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
    LIMIT $1::bigint
    FOR NO KEY UPDATE OF o SKIP LOCKED
), doubted AS (
    UPDATE {schema}.once o
    SET state = 'uncertain', uncertain_at = coalesce(o.uncertain_at, l.expires_at), reason = $3::text
    FROM lost l
    WHERE o.namespace = l.namespace AND o.key = l.key
    RETURNING o.namespace, o.key, o.token, o.owner, o.expires_at, o.reason, o.claimed_at
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', d.namespace, d.key, 'expired', d.token, d.owner, d.expires_at, d.reason, d.claimed_at
    FROM doubted d
)
UPDATE {schema}.upkeep u
SET once_swept_until = least(
    timestamptz 'epoch' + $2::bigint * interval '1 microsecond' - interval '1 hour',
    (SELECT min(open.claimed_at) FROM open))
FROM (
    -- Not where a claim that was hidden has been found meanwhile.
    SELECT u.ctid AS place
    FROM {schema}.upkeep u
    WHERE u.once_swept_until >= timestamptz 'epoch' + $4::bigint * interval '1 microsecond'
    FOR UPDATE OF u SKIP LOCKED
) m
WHERE u.ctid = m.place

-- step: hidden
WITH open AS MATERIALIZED (
    SELECT o.claimed_at
    FROM {schema}.once o
    WHERE o.ctid >= $1::text::tid AND o.ctid < $2::text::tid AND o.state = 'running'
      AND o.claimed_at < (SELECT u.once_swept_until FROM {schema}.upkeep u)
), back AS (
    UPDATE {schema}.upkeep u
    SET once_swept_until = least(u.once_swept_until, (SELECT min(open.claimed_at) FROM open))
    FROM (SELECT u.ctid AS place FROM {schema}.upkeep u FOR UPDATE OF u SKIP LOCKED) m
    WHERE u.ctid = m.place AND EXISTS (SELECT FROM open)
)
SELECT count(*) FROM open

-- step: once
WITH over AS MATERIALIZED (
    SELECT o.ctid AS place, o.namespace, o.key, o.state, o.token, o.owner, o.claimed_at, o.finished_at, o.reason,
           o.untold
    FROM {schema}.once o
    WHERE o.ctid >= $3::text::tid AND o.ctid < $4::text::tid
      AND o.retain_until <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
      AND o.state IN ('done', 'failed', 'released') AND o.token < $2::bigint
    LIMIT $1::bigint
    FOR UPDATE OF o SKIP LOCKED
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', o.namespace, o.key, CASE o.state WHEN 'released' THEN 'not_started' ELSE o.state END, o.token,
           o.owner, o.finished_at, o.reason, o.claimed_at
    FROM over o
    WHERE o.untold
), gone AS (
    DELETE FROM {schema}.once o
    USING over
    WHERE o.ctid = over.place
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: untold
WITH old AS MATERIALIZED (
    SELECT o.ctid AS place
    FROM {schema}.once o
    WHERE o.ctid >= $3::text::tid AND o.ctid < $4::text::tid AND o.untold
      AND o.finished_at <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
    LIMIT $1::bigint
    FOR NO KEY UPDATE OF o SKIP LOCKED
), forgotten AS (
    UPDATE {schema}.once o
    SET untold = false
    FROM old
    WHERE o.ctid = old.place
    RETURNING 1
)
SELECT count(*) FROM forgotten

-- step: leases
WITH over AS MATERIALIZED (
    SELECT l.namespace, l.key, l.slot, l.token, l.owner, l.granted_at, l.expires_at, l.released_at
    FROM {schema}.lease l
    WHERE l.ctid >= $3::text::tid AND l.ctid < $4::text::tid
      AND coalesce(l.released_at, l.expires_at + l.lock_delay_ms * interval '1 millisecond')
              <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond'
      AND l.token < $5::bigint
    LIMIT $1::bigint
    FOR UPDATE OF l SKIP LOCKED
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, claimed_at)
    SELECT 'lease', o.namespace, o.key, 'expired', o.token, o.owner, o.expires_at, o.granted_at
    FROM over o
    WHERE o.released_at IS NULL
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
