-- once.lookup: reads keys, bodies included.
--
-- $1 namespace[]  $2 key[]
-- Rows: n (place in the arrays, from 1), now, then the columns of the row, NULL where there is none. One row of n = 0
-- comes first, so that the time is known even of an empty list.
-- Index: once_pkey (namespace, key).

SELECT 0::bigint AS n, {clock} AS now, NULL::text AS namespace, NULL::text AS key, NULL::text AS state,
       NULL::bigint AS token, NULL::text AS owner, NULL::uuid AS session, NULL::bigint AS attempts,
       NULL::bytea AS fingerprint, NULL::timestamptz AS claimed_at, NULL::timestamptz AS expires_at,
       NULL::timestamptz AS hard_expires_at, NULL::bigint AS ttl_ms, NULL::bigint AS retain_ms,
       NULL::timestamptz AS uncertain_at, NULL::timestamptz AS finished_at, NULL::timestamptz AS retain_until,
       NULL::boolean AS late, NULL::bytea AS body, NULL::text AS content_type, NULL::bigint AS body_size,
       NULL::text AS reason
UNION ALL
SELECT a.n, NULL, o.namespace, o.key, o.state, o.token, o.owner, o.session, o.attempts, o.fingerprint, o.claimed_at,
       o.expires_at, o.hard_expires_at, o.ttl_ms, o.retain_ms, o.uncertain_at, o.finished_at, o.retain_until, o.late,
       o.body, o.content_type, o.body_size, o.reason
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a (namespace, key, n)
JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
