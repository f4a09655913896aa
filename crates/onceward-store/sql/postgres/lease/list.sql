-- lease.list: a page of leases, in the order of (namespace, key, slot). NULL parameters filter nothing.
--
-- $1 namespace  $2 prefix  $3 standing  $4 $5 $6 namespace, key and slot to start after  $7 limit
-- Rows: now, then the columns of a row; one row of NULLs if there is none.
-- Index: lease_pkey (namespace, key, slot), when planned with the parameters' values.

SELECT t.now, l.namespace, l.key, l.slot, l.token, l.owner, l.session, l.granted_at, l.expires_at, l.hard_expires_at,
       l.ttl_ms, l.lock_delay_ms, l.heartbeats, l.released_at, l.metadata
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT l.*
    FROM {schema}.lease l
    WHERE ($1::text IS NULL OR l.namespace = $1::text)
      -- No key that starts with the prefix sorts after the prefix and the largest character, as often as it fits.
      AND ($2::text IS NULL OR (l.key >= $2::text AND l.key <= $2::text || repeat(chr(1114111), 64)
                                AND starts_with(l.key, $2::text)))
      AND ($4::text IS NULL OR (l.namespace, l.key, l.slot) > ($4::text, $5::text, $6::bigint))
      AND ($3::text IS NULL OR $3::text = CASE
               WHEN l.released_at IS NOT NULL THEN 'released' WHEN l.expires_at <= t.now THEN 'expired' ELSE 'held'
           END)
    ORDER BY l.namespace, l.key, l.slot
    LIMIT $7::bigint
) l ON true
ORDER BY l.namespace, l.key, l.slot
