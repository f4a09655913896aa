-- lease.renew: extends grants by their own ttl, never beyond their hard limit, never after their expiry (L3, N24).
--
-- renew
--   $1 namespace[]  $2 key[]  $3 slot[]  $4 token[]  $5 session[]
--   Rows: n (place in the arrays, from 1), expires_at; only of what was renewed.
--   The expiry is checked after the lock is held: a plain UPDATE behind somebody's pure row lock would check it before
--   the wait and revive an expired lease (E17). Locked rows are passed over. Losing a renewal in a crash only ends a
--   lease early, so nobody waits for the disk.
-- seen: what became of those that were not renewed; the same parameters
--   Rows: n, for each that is still held under that token: a lock was in the way. The others are lost.
-- Index: lease_pkey (namespace, key, slot). The update is HOT.

-- step: renew
WITH setting AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), ask AS MATERIALIZED (
    SELECT a.*
    FROM setting, unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::uuid[]) WITH ORDINALITY
        AS a (namespace, key, slot, token, session, n)
), held AS MATERIALIZED (
    SELECT a.n, l.namespace, l.key, l.slot, l.token, l.expires_at, l.hard_expires_at, l.ttl_ms
    FROM ask a
    JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot = a.slot
    WHERE l.token = a.token AND l.session = a.session AND l.released_at IS NULL
    FOR NO KEY UPDATE OF l SKIP LOCKED
)
UPDATE {schema}.lease l
SET expires_at = least(h.now + h.ttl_ms * interval '1 millisecond', h.hard_expires_at),
    heartbeats = l.heartbeats + 1
FROM (SELECT held.*, {clock} AS now FROM held) h
WHERE l.namespace = h.namespace AND l.key = h.key AND l.slot = h.slot AND l.token = h.token
  AND h.expires_at > h.now
RETURNING h.n, l.expires_at

-- step: seen
SELECT a.n
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::uuid[]) WITH ORDINALITY
    AS a (namespace, key, slot, token, session, n)
JOIN {schema}.lease l ON l.namespace = a.namespace AND l.key = a.key AND l.slot = a.slot
WHERE l.token = a.token AND l.session = a.session AND l.released_at IS NULL AND l.expires_at > {clock}
