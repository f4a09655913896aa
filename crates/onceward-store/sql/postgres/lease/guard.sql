-- lease.guard: one statement in the caller's own transaction; it refuses a holder who is not the holder any more.
--
-- $1 namespace  $2 key  $3 token
-- One row if the token is the current one and its time is not up; none otherwise.
-- Index: lease_pkey (namespace, key, slot).
-- FOR KEY SHARE lets the holder's renewals pass, which lock FOR NO KEY UPDATE, and holds off takeovers, which lock FOR
-- UPDATE, until the transaction ends (E18, L4). The expiry is checked after the lock is held (E17).

WITH guarded AS MATERIALIZED (
    SELECT l.expires_at, l.released_at
    FROM {schema}.lease l
    WHERE l.namespace = $1::text AND l.key = $2::text AND l.token = $3::bigint
    FOR KEY SHARE
)
SELECT true AS is_current
FROM guarded g
WHERE g.released_at IS NULL AND g.expires_at > {clock}
