-- lease.release: gives leases back, exactly those of the tokens (L8). Late is not too late while the token is the row's.
--
-- release: those whose rows lie where they were written, without an index: the place names the row, and names and token
--   decide. The others, which a renewal has moved, by lease_pkey (namespace, key, slot).
--   $1 namespace[]  $2 key[]  $3 token[]  $4 reason[]  $5 place[]; one key each, sorted by (namespace, key)
--   Rows: n (place in the arrays, from 1), whether anybody waits for the key; only of what was released.
-- near: the same, and only those that lie where they were written
-- backs, lying, telling: what both of them have in common
-- notify: tells other processes, in a transaction of its own
--   $1 channel  $2 payload
-- Nobody waits for the disk: a release that a crash of the server undoes leaves a lease that runs out (decision 8).
-- Index: lease_waiter_pkey. The updates are HOT.

-- step: backs
setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true), set_config('synchronous_commit', 'off', true)
), ask AS MATERIALIZED (
    SELECT a.*
    FROM setting, unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::tid[]) WITH ORDINALITY
        AS a (namespace, key, token, reason, place, n)
)

-- step: lying
    UPDATE {schema}.lease l
    SET released_at = a.now
    FROM (SELECT ask.*, {clock} AS now FROM ask) a
    WHERE l.ctid = a.place AND l.namespace = a.namespace AND l.key = a.key AND l.token = a.token
      AND l.released_at IS NULL
    RETURNING a.n, l.namespace, l.key, l.token, l.owner, l.granted_at, l.released_at, a.reason

-- step: telling
told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'lease', r.namespace, r.key, 'released', r.token, r.owner, r.released_at, r.reason, r.granted_at
    FROM released r
)
SELECT r.n,
       -- Mostly nobody waits for anything, and one look tells.
       CASE WHEN EXISTS (SELECT FROM {schema}.lease_waiter w WHERE w.namespace = ANY ($1::text[])) THEN EXISTS (
           SELECT FROM {schema}.lease_waiter w
           WHERE w.namespace = r.namespace AND w.key = r.key AND w.expires_at > r.released_at)
       ELSE false END AS waited_for
FROM released r

-- step: near
WITH {backs}, released AS (
{lying}
), {telling}

-- step: release
WITH {backs}, near AS (
{lying}
), far AS (
    UPDATE {schema}.lease l
    SET released_at = a.now
    FROM (SELECT ask.*, {clock} AS now FROM ask WHERE ask.n NOT IN (SELECT near.n FROM near)) a
    WHERE l.namespace = a.namespace AND l.key = a.key AND l.token = a.token AND l.released_at IS NULL
    RETURNING a.n, l.namespace, l.key, l.token, l.owner, l.granted_at, l.released_at, a.reason
), released AS (
    SELECT * FROM near
    UNION ALL
    SELECT * FROM far
), {telling}

-- step: notify
SELECT pg_notify($1::text, $2::text)
