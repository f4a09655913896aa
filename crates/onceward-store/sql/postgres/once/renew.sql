-- once.renew: extends claims by their own ttl, never beyond their hard limit, never after their expiry.
--
-- renew
--   $1 namespace[]  $2 key[]  $3 token[]  $4 session[]
--   Rows: n (place in the arrays, from 1), expires_at; only of what was renewed.
--   As lease.renew: the expiry is checked after the lock is held (E17), locked rows are passed over, nobody waits for
--   the disk.
-- seen: what became of those that were not renewed; the same parameters
--   Rows: n, for each that still runs under that token: a lock was in the way. The others are lost.
-- Index: once_pkey (namespace, key). The update is HOT.

-- step: renew
WITH setting AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), ask AS MATERIALIZED (
    SELECT a.*
    FROM setting, unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[]) WITH ORDINALITY
        AS a (namespace, key, token, session, n)
), held AS MATERIALIZED (
    SELECT a.n, o.namespace, o.key, o.expires_at, o.hard_expires_at, o.ttl_ms
    FROM ask a
    JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
    WHERE o.token = a.token AND o.session = a.session AND o.state = 'running'
    FOR NO KEY UPDATE OF o SKIP LOCKED
)
UPDATE {schema}.once o
SET expires_at = least(h.now + h.ttl_ms * interval '1 millisecond', h.hard_expires_at)
FROM (SELECT held.*, {clock} AS now FROM held) h
WHERE o.namespace = h.namespace AND o.key = h.key AND h.expires_at > h.now
RETURNING h.n, o.expires_at

-- step: seen
SELECT a.n
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[]) WITH ORDINALITY AS a (namespace, key, token, session, n)
JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
WHERE o.token = a.token AND o.session = a.session AND o.state = 'running' AND o.expires_at > {clock}
