-- lease.acquire: takes leases. A refusal reads, and neither writes nor locks (decision 14).
--
-- given_back: asks of capacity 1, as batch, of leases that were given back, as long as nobody waits for any lease of their
--   namespaces; what remains is something else. The parameters $1 to $8. Rows as those of free, of what was granted.
-- free: asks of capacity 1, as batch, of leases that were given back or never taken, as long as nobody waits for any
--   lease of their namespaces: what most asks need, and every further step of a statement costs time whether or not it
--   has rows to work on. The parameters $1 to $8. Rows as batch, and where a grant was written.
-- taking, granting: what both of them have in common
-- batch: asks of capacity 1, one key each, sorted by (namespace, key)
--   $1 namespace[]  $2 key[]  $3 owner[]  $4 session[]  $5 ttl_ms[]  $6 hard_ttl_ms[]  $7 lock_delay_ms[]
--   $8 metadata[]   $9 watched token[]    $10 watched heartbeats[]
--   Rows: granted, namespace, key, now, ahead, then the columns of the row: as written where granted, else as read.
--   A key without a row was being written by somebody else: ask again in a new statement.
-- counted: one ask of a larger capacity. Two asks take different places at the same time and don't see each other: so
--   the number of the place is in the token, which leaves the same remainder by 16384 in every grant of the place.
--   $1..$10 as above, one value each  $11 capacity
--   Rows: the grant, if there is one; then one row as read, of the place the session holds already, else of the taken one
--   that becomes free first. A last column counts the places that are taken.
-- Indexes: lease_pkey (namespace, key, slot); lease_waiter_pkey.

-- step: taking
ask AS MATERIALIZED (
    -- The place is a column although it is always 0: a constant would tempt the planner to read every row of place 0.
    SELECT a.*, 0 AS ask_slot
    FROM {bounded}unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[])
        AS a (namespace, key, ask_owner, ask_session, ask_ttl_ms, ask_hard_ttl_ms, ask_lock_delay_ms, ask_metadata)
    WHERE NOT EXISTS (SELECT FROM {schema}.lease_waiter w WHERE w.namespace = ANY ($1::text[]))
), free AS MATERIALIZED (
    -- Locked FOR UPDATE before it is changed: a lesser lock would let the guard of a transaction that still sees the
    -- holder before pass (L4). Whoever holds a lock on it is taking it, or guarded with it: passed over.
    SELECT a.*, l.ctid AS place, l.token AS last
    FROM ask a
    JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot = a.ask_slot
    WHERE l.released_at IS NOT NULL
      -- The places of a key share one line of tokens.
      AND NOT EXISTS (SELECT FROM {schema}.lease m
                      WHERE m.namespace = a.namespace AND m.key = a.key AND m.slot > a.ask_slot)
    FOR UPDATE OF l SKIP LOCKED
), taken AS (
    UPDATE {schema}.lease l
    SET token = greatest(f.last + 1, (extract(epoch FROM f.now) * 1000000)::bigint),
        owner = f.ask_owner, session = f.ask_session, granted_at = f.now,
        expires_at = least(f.now + f.ask_ttl_ms * interval '1 millisecond',
                           f.now + f.ask_hard_ttl_ms * interval '1 millisecond'),
        hard_expires_at = f.now + f.ask_hard_ttl_ms * interval '1 millisecond',
        ttl_ms = f.ask_ttl_ms, lock_delay_ms = f.ask_lock_delay_ms, heartbeats = 0, released_at = NULL,
        metadata = f.ask_metadata
    FROM (SELECT free.*, {clock} AS now FROM free) f
    WHERE l.ctid = f.place
    RETURNING l.namespace, l.key, l.token, l.granted_at, l.expires_at, l.hard_expires_at, l.ctid AS place
)

-- step: granting
SELECT true AS granted, t.namespace, t.key, t.granted_at AS now, false AS ahead, 0 AS slot, t.token, NULL AS owner,
       NULL::uuid AS session, t.granted_at, t.expires_at, t.hard_expires_at, NULL::bigint AS ttl_ms,
       NULL::bigint AS lock_delay_ms, NULL::bigint AS heartbeats, NULL::timestamptz AS released_at, NULL AS metadata,
       t.place
FROM taken t

-- step: given_back
{bound}WITH {taking}
{granting}

-- step: free
{bound}WITH {taking}, made AS (
    INSERT INTO {schema}.lease (namespace, key, slot, token, owner, session, granted_at, expires_at,
                                hard_expires_at, ttl_ms, lock_delay_ms, heartbeats, metadata)
    SELECT f.namespace, f.key, 0, greatest(f.last + 1, (extract(epoch FROM f.now) * 1000000)::bigint),
           f.ask_owner, f.ask_session, f.now,
           least(f.now + f.ask_ttl_ms * interval '1 millisecond', f.now + f.ask_hard_ttl_ms * interval '1 millisecond'),
           f.now + f.ask_hard_ttl_ms * interval '1 millisecond',
           f.ask_ttl_ms, f.ask_lock_delay_ms, 0, f.ask_metadata
    FROM (
        SELECT a.*, {clock} AS now,
               (SELECT max(m.token) FROM {schema}.lease m
                WHERE m.namespace = a.namespace AND m.key = a.key) AS last
        FROM ask a
        WHERE (a.namespace, a.key) NOT IN (SELECT free.namespace, free.key FROM free)
          -- The insert would wait for whoever is writing a row that is there.
          AND NOT EXISTS (SELECT FROM {schema}.lease m
                          WHERE m.namespace = a.namespace AND m.key = a.key AND m.slot = a.ask_slot)
    ) f
    ON CONFLICT DO NOTHING
    RETURNING namespace, key, token, granted_at, expires_at, hard_expires_at, ctid AS place
)
{granting}
UNION ALL
SELECT true, m.namespace, m.key, m.granted_at, false, 0, m.token, NULL, NULL, m.granted_at, m.expires_at,
       m.hard_expires_at, NULL, NULL, NULL, NULL, NULL, m.place
FROM made m
UNION ALL
SELECT false, l.namespace, l.key, a.now, false, l.slot, l.token, l.owner, l.session, l.granted_at, l.expires_at,
       l.hard_expires_at, l.ttl_ms, l.lock_delay_ms, l.heartbeats, l.released_at, l.metadata, NULL
FROM (SELECT ask.*, {clock} AS now
      FROM ask
      WHERE (ask.namespace, ask.key) NOT IN (SELECT free.namespace, free.key FROM free)) a
JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot = a.ask_slot

-- step: batch
{bound}WITH ask AS MATERIALIZED (
    -- The place is a column although it is always 0: a constant would tempt the planner to read every row of place 0.
    SELECT a.*, 0 AS ask_slot
    FROM {bounded}unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::bigint[], $10::bigint[])
        AS a (namespace, key, ask_owner, ask_session, ask_ttl_ms, ask_hard_ttl_ms, ask_lock_delay_ms,
              ask_metadata, watched_token, watched_heartbeats)
), seen AS MATERIALIZED (
    SELECT a.*, l.slot, l.token, l.owner, l.session, l.granted_at, l.expires_at, l.hard_expires_at, l.ttl_ms,
           l.lock_delay_ms, l.heartbeats, l.released_at, l.metadata,
           -- Fair waiters who were here before: those with a smaller ticket than ours, or all if we have none.
           EXISTS (
               SELECT FROM {schema}.lease_waiter w
               WHERE w.namespace = a.namespace AND w.key = a.key AND w.fair AND w.session <> a.ask_session
                 AND w.expires_at > a.seen_at
                 AND NOT EXISTS (
                     SELECT FROM {schema}.lease_waiter mine
                     WHERE mine.namespace = a.namespace AND mine.key = a.key AND mine.session = a.ask_session
                       AND mine.fair AND mine.expires_at > a.seen_at
                       AND (mine.ticket, mine.session) < (w.ticket, w.session))
           ) AS ahead
    FROM (SELECT ask.*, {clock} AS seen_at FROM ask) a
    LEFT JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot = a.ask_slot
), free AS MATERIALIZED (
    -- What can be taken over. Whoever holds a lock on it is taking it, or guards a transaction with it: passed over.
    SELECT s.namespace, s.key, s.ask_owner, s.ask_session, s.ask_ttl_ms, s.ask_hard_ttl_ms, s.ask_lock_delay_ms,
           s.ask_metadata, l.slot, l.token, l.owner, l.granted_at, l.released_at
    FROM seen s
    JOIN {schema}.lease l ON l.namespace = s.namespace AND l.key = s.key AND l.slot = s.ask_slot
    WHERE s.token IS NOT NULL AND NOT s.ahead
      AND (l.released_at IS NOT NULL
           OR l.expires_at + l.lock_delay_ms * interval '1 millisecond' <= {clock}
           -- An expiry that only a step of the clock explains, watched for its whole ttl (N17).
           OR (l.expires_at > {clock} + l.ttl_ms * interval '1 millisecond' + interval '1 second'
               AND l.token = s.watched_token AND l.heartbeats = s.watched_heartbeats
               AND l.session <> s.ask_session))
    FOR UPDATE OF l SKIP LOCKED
), taken AS (
    UPDATE {schema}.lease l
    SET token = greatest(f.last + 1, (extract(epoch FROM f.now) * 1000000)::bigint),
        owner = f.ask_owner, session = f.ask_session, granted_at = f.now,
        expires_at = least(f.now + f.ask_ttl_ms * interval '1 millisecond',
                           f.now + f.ask_hard_ttl_ms * interval '1 millisecond'),
        hard_expires_at = f.now + f.ask_hard_ttl_ms * interval '1 millisecond',
        ttl_ms = f.ask_ttl_ms, lock_delay_ms = f.ask_lock_delay_ms, heartbeats = 0, released_at = NULL,
        metadata = f.ask_metadata
    FROM (
        SELECT free.*, {clock} AS now,
               greatest(free.token, (SELECT max(m.token) FROM {schema}.lease m
                                     WHERE m.namespace = free.namespace AND m.key = free.key)) AS last
        FROM free
    ) f
    WHERE l.namespace = f.namespace AND l.key = f.key AND l.slot = f.slot
    RETURNING l.namespace, l.key, f.now, l.token, l.owner, l.granted_at, l.expires_at, l.hard_expires_at,
              f.token AS ended_token, f.owner AS ended_owner, f.granted_at AS ended_granted_at,
              f.released_at AS ended_released_at
), ended AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, claimed_at, claimed_by)
    SELECT 'lease', t.namespace, t.key, 'expired', t.ended_token, t.owner, t.now, t.ended_granted_at,
           nullif(t.ended_owner, t.owner)
    FROM taken t
    WHERE t.ended_released_at IS NULL
), made AS (
    INSERT INTO {schema}.lease (namespace, key, slot, token, owner, session, granted_at, expires_at,
                                hard_expires_at, ttl_ms, lock_delay_ms, heartbeats, metadata)
    SELECT f.namespace, f.key, 0, greatest(f.last + 1, (extract(epoch FROM f.now) * 1000000)::bigint),
           f.ask_owner, f.ask_session, f.now,
           least(f.now + f.ask_ttl_ms * interval '1 millisecond', f.now + f.ask_hard_ttl_ms * interval '1 millisecond'),
           f.now + f.ask_hard_ttl_ms * interval '1 millisecond',
           f.ask_ttl_ms, f.ask_lock_delay_ms, 0, f.ask_metadata
    FROM (
        SELECT s.*, {clock} AS now,
               (SELECT max(m.token) FROM {schema}.lease m
                WHERE m.namespace = s.namespace AND m.key = s.key) AS last
        FROM seen s
        WHERE s.token IS NULL AND NOT s.ahead
    ) f
    ON CONFLICT DO NOTHING
    RETURNING namespace, key, token, granted_at, expires_at, hard_expires_at
)
SELECT false AS granted, s.namespace, s.key, s.seen_at AS now, s.ahead, s.slot, s.token, s.owner, s.session, s.granted_at,
       s.expires_at, s.hard_expires_at, s.ttl_ms, s.lock_delay_ms, s.heartbeats, s.released_at, s.metadata
FROM seen s
WHERE s.token IS NOT NULL OR s.ahead
UNION ALL
SELECT true, t.namespace, t.key, t.now, false, 0, t.token, NULL, NULL, t.granted_at, t.expires_at,
       t.hard_expires_at, NULL, NULL, NULL, NULL, NULL
FROM taken t
UNION ALL
SELECT true, m.namespace, m.key, m.granted_at, false, 0, m.token, NULL, NULL, m.granted_at, m.expires_at,
       m.hard_expires_at, NULL, NULL, NULL, NULL, NULL
FROM made m

-- step: counted
WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
), ask AS MATERIALIZED (
    SELECT $1::text AS namespace, $2::text AS key, $3::text AS owner, $4::uuid AS session, $5::bigint AS ttl_ms,
           $6::bigint AS hard_ttl_ms, $7::bigint AS lock_delay_ms, $8::text AS metadata,
           $9::bigint AS watched_token, $10::bigint AS watched_heartbeats, $11::bigint AS capacity, {clock} AS now
    FROM setting
), seen AS MATERIALIZED (
    SELECT l.*, row_number() OVER (ORDER BY l.slot) - 1 AS place
    FROM ask a
    JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot < a.capacity
), wish AS MATERIALIZED (
    -- The ask, unless it has its grant already or somebody fair was here before; with the lowest place without a row
    -- (there is a gap where a row's number runs ahead of its place) and the largest token of the key so far.
    SELECT a.*, w.ahead,
           coalesce((SELECT min(s.place) FROM seen s WHERE s.slot > s.place), (SELECT count(*) FROM seen)) AS gap,
           (SELECT max(m.token) FROM {schema}.lease m
            WHERE m.namespace = a.namespace AND m.key = a.key) AS last,
           NOT w.ahead AND NOT EXISTS (
               SELECT FROM seen s
               WHERE s.session = a.session AND s.released_at IS NULL AND s.expires_at > a.now) AS open
    FROM ask a, LATERAL (
        SELECT EXISTS (
            SELECT FROM {schema}.lease_waiter w
            WHERE w.namespace = a.namespace AND w.key = a.key AND w.fair AND w.session <> a.session
              AND w.expires_at > a.now
              AND NOT EXISTS (
                  SELECT FROM {schema}.lease_waiter mine
                  WHERE mine.namespace = a.namespace AND mine.key = a.key AND mine.session = a.session
                    AND mine.fair AND mine.expires_at > a.now
                    AND (mine.ticket, mine.session) < (w.ticket, w.session))
        ) AS ahead
    ) w
), free AS MATERIALIZED (
    SELECT l.namespace, l.key, l.slot, l.token, l.owner, l.granted_at, l.released_at
    FROM wish a
    JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key
                         AND l.slot < least(a.gap, a.capacity)
    WHERE a.open
      AND (l.released_at IS NOT NULL
           OR l.expires_at + l.lock_delay_ms * interval '1 millisecond' <= {clock}
           OR (l.expires_at > {clock} + l.ttl_ms * interval '1 millisecond' + interval '1 second'
               AND l.token = a.watched_token AND l.heartbeats = a.watched_heartbeats))
    ORDER BY l.slot
    LIMIT 1
    FOR UPDATE OF l SKIP LOCKED
), taken AS (
    UPDATE {schema}.lease l
    SET token = f.drawn + mod(f.slot + 1 - mod(f.drawn, 16384) + 16384, 16384),
        owner = f.ask_owner, session = f.session, granted_at = f.now,
        expires_at = least(f.now + f.ttl_ms * interval '1 millisecond',
                           f.now + f.hard_ttl_ms * interval '1 millisecond'),
        hard_expires_at = f.now + f.hard_ttl_ms * interval '1 millisecond',
        ttl_ms = f.ttl_ms, lock_delay_ms = f.lock_delay_ms, heartbeats = 0, released_at = NULL,
        metadata = f.metadata
    FROM (
        SELECT g.*, greatest(g.last + 1, (extract(epoch FROM g.now) * 1000000)::bigint) AS drawn
        FROM (
            SELECT free.*, a.owner AS ask_owner, a.session, a.ttl_ms, a.hard_ttl_ms, a.lock_delay_ms, a.metadata,
                   greatest(free.token, a.last) AS last, {clock} AS now
            FROM free, wish a
        ) g
    ) f
    WHERE l.namespace = f.namespace AND l.key = f.key AND l.slot = f.slot
    RETURNING l.namespace, l.key, f.now, l.slot, l.token, l.owner, l.granted_at, l.expires_at, l.hard_expires_at,
              f.token AS ended_token, f.owner AS ended_owner, f.granted_at AS ended_granted_at,
              f.released_at AS ended_released_at
), ended AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, claimed_at, claimed_by)
    SELECT 'lease', t.namespace, t.key, 'expired', t.ended_token, t.owner, t.now, t.ended_granted_at,
           nullif(t.ended_owner, t.owner)
    FROM taken t
    WHERE t.ended_released_at IS NULL
), made AS (
    INSERT INTO {schema}.lease (namespace, key, slot, token, owner, session, granted_at, expires_at,
                                hard_expires_at, ttl_ms, lock_delay_ms, heartbeats, metadata)
    SELECT a.namespace, a.key, a.gap, a.drawn + mod(a.gap + 1 - mod(a.drawn, 16384) + 16384, 16384),
           a.owner, a.session, a.now,
           least(a.now + a.ttl_ms * interval '1 millisecond', a.now + a.hard_ttl_ms * interval '1 millisecond'),
           a.now + a.hard_ttl_ms * interval '1 millisecond', a.ttl_ms, a.lock_delay_ms, 0, a.metadata
    FROM (
        SELECT w.*, greatest(w.last + 1, (extract(epoch FROM w.now) * 1000000)::bigint) AS drawn
        FROM (
            SELECT namespace, key, owner, session, ttl_ms, hard_ttl_ms, lock_delay_ms, metadata, gap, last,
                   {clock} AS now
            FROM wish
            WHERE wish.open AND wish.gap < wish.capacity AND NOT EXISTS (SELECT FROM free)
        ) w
    ) a
    ON CONFLICT DO NOTHING
    RETURNING namespace, key, slot, token, granted_at, expires_at, hard_expires_at
)
SELECT true AS granted, t.namespace, t.key, t.now, false AS ahead, t.slot, t.token, NULL::text AS owner,
       NULL::uuid AS session, t.granted_at, t.expires_at, t.hard_expires_at, NULL::bigint AS ttl_ms,
       NULL::bigint AS lock_delay_ms, NULL::bigint AS heartbeats, NULL::timestamptz AS released_at,
       NULL::text AS metadata, 0::bigint AS busy
FROM taken t
UNION ALL
SELECT true, m.namespace, m.key, m.granted_at, false, m.slot, m.token, NULL, NULL, m.granted_at, m.expires_at,
       m.hard_expires_at, NULL, NULL, NULL, NULL, NULL, 0
FROM made m
UNION ALL
SELECT false, a.namespace, a.key, a.now, a.ahead, s.slot, s.token, s.owner, s.session, s.granted_at, s.expires_at,
       s.hard_expires_at, s.ttl_ms, s.lock_delay_ms, s.heartbeats, s.released_at, s.metadata,
       (SELECT count(*) FROM seen b
        WHERE b.released_at IS NULL AND b.expires_at + b.lock_delay_ms * interval '1 millisecond' > a.now)
FROM wish a
LEFT JOIN LATERAL (
    SELECT s.*
    FROM seen s
    ORDER BY s.session = a.session AND s.released_at IS NULL AND s.expires_at > a.now DESC,
             s.released_at IS NOT NULL OR s.expires_at + s.lock_delay_ms * interval '1 millisecond' <= a.now,
             s.expires_at + s.lock_delay_ms * interval '1 millisecond', s.slot
    LIMIT 1
) s ON true
