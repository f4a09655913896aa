-- lease.wait: takes or keeps a place among those who wait for a lease. A place that has run out is lost.
--
-- $1 namespace  $2 key  $3 session  $4 fair  $5 ttl_ms
-- One row: ticket, fair, expires_at.
-- Index: lease_waiter_pkey (namespace, key, session).

WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
)
INSERT INTO {schema}.lease_waiter AS w (namespace, key, session, ticket, fair, expires_at)
SELECT a.namespace, a.key, a.session, greatest(a.last + 1, (extract(epoch FROM a.now) * 1000000)::bigint), a.fair,
       a.now + a.ttl_ms * interval '1 millisecond'
FROM (
    SELECT $1::text AS namespace, $2::text AS key, $3::uuid AS session, $4::boolean AS fair, $5::bigint AS ttl_ms,
           {clock} AS now,
           (SELECT max(l.ticket) FROM {schema}.lease_waiter l WHERE l.namespace = $1 AND l.key = $2) AS last
    FROM setting
) a
ON CONFLICT (namespace, key, session) DO UPDATE
SET expires_at = {clock} + $5::bigint * interval '1 millisecond',
    ticket = CASE WHEN w.expires_at > {clock} THEN w.ticket ELSE excluded.ticket END,
    fair = CASE WHEN w.expires_at > {clock} THEN w.fair ELSE excluded.fair END
RETURNING w.ticket, w.fair, w.expires_at
