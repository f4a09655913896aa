-- lease.lookup: every place of one key.
--
-- $1 namespace  $2 key
-- Rows: now, then the columns of a row, in the order of places; one row of NULLs if there is none.
-- Index: lease_pkey (namespace, key, slot).

SELECT t.now, l.namespace, l.key, l.slot, l.token, l.owner, l.session, l.granted_at, l.expires_at, l.hard_expires_at,
       l.ttl_ms, l.lock_delay_ms, l.heartbeats, l.released_at, l.metadata
FROM (SELECT {clock} AS now) t
LEFT JOIN {schema}.lease l ON l.namespace = $1::text AND l.key = $2::text
ORDER BY l.slot
