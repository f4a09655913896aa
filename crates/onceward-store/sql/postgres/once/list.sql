-- once.list: a page of keys, in the order of (namespace, key), without the bytes of their bodies. NULL parameters
-- filter nothing.
--
-- $1 namespace  $2 prefix  $3 state as of now  $4 $5 namespace and key to start after  $6 limit
-- Rows: now, then the columns of a row; one row of NULLs if there is none.
-- Indexes: once_pkey, or once_unfinished for what is running or uncertain, when planned with the parameters' values.

SELECT t.now, o.namespace, o.key, o.state, o.token, o.owner, o.session, o.attempts, o.fingerprint, o.claimed_at,
       o.expires_at, o.hard_expires_at, o.ttl_ms, o.retain_ms, o.uncertain_at, o.finished_at, o.retain_until, o.late,
       NULL::bytea AS body, o.content_type, o.body_size, o.reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT o.*
    FROM {schema}.once o
    WHERE ($1::text IS NULL OR o.namespace = $1::text)
      -- No key that starts with the prefix sorts after the prefix and the largest character, as often as it fits.
      AND ($2::text IS NULL OR (o.key >= $2::text AND o.key <= $2::text || repeat(chr(1114111), 64)
                                AND starts_with(o.key, $2::text)))
      AND ($4::text IS NULL OR (o.namespace, o.key) > ($4::text, $5::text))
      AND ($3::text IS NULL OR $3::text NOT IN ('running', 'uncertain') OR o.finished_at IS NULL)
      AND ($3::text IS NULL OR $3::text = CASE
               WHEN o.state = 'running' AND o.expires_at <= t.now THEN 'uncertain' ELSE o.state
           END)
    ORDER BY o.namespace, o.key
    LIMIT $6::bigint
) o ON true
ORDER BY o.namespace, o.key
