-- once.list: a page of keys, in the order of (namespace, key), without the bytes of their bodies. NULL parameters
-- filter nothing.
--
-- all:   $1 namespace  $2 prefix  $3 state as written  $4 $5 namespace and key to start after  $6 limit
-- swept: one row: how far upkeep has come, and now, in microseconds since 1970
-- open:  what is running or uncertain; as all, with $3 state as of now  $7 how far upkeep has come
-- Rows: now, then the columns of a row; one row of NULLs if there is none.
-- Indexes, when planned with the parameters' values: once_pkey; in open once_doubted and once_claimed.

-- step: all
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
      AND ($3::text IS NULL OR o.state = $3::text)
    ORDER BY o.namespace, o.key
    LIMIT $6::bigint
) o ON true
ORDER BY o.namespace, o.key

-- step: swept
SELECT (extract(epoch FROM u.once_swept_until) * 1000000)::bigint AS swept_until,
       (extract(epoch FROM {clock}) * 1000000)::bigint AS now
FROM {schema}.upkeep u

-- step: open
SELECT t.now, o.namespace, o.key, o.state, o.token, o.owner, o.session, o.attempts, o.fingerprint, o.claimed_at,
       o.expires_at, o.hard_expires_at, o.ttl_ms, o.retain_ms, o.uncertain_at, o.finished_at, o.retain_until, o.late,
       NULL::bytea AS body, o.content_type, o.body_size, o.reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT o.*
    FROM (
        SELECT o.*
        FROM {schema}.once o
        WHERE o.uncertain_at IS NOT NULL AND o.state IN ('running', 'uncertain')
        UNION ALL
        SELECT o.*
        FROM {schema}.once o
        WHERE o.uncertain_at IS NULL AND o.state = 'running'
          AND o.claimed_at >= timestamptz 'epoch' + $7::bigint * interval '1 microsecond'
    ) o
    WHERE ($1::text IS NULL OR o.namespace = $1::text)
      AND ($2::text IS NULL OR starts_with(o.key, $2::text))
      AND ($4::text IS NULL OR (o.namespace, o.key) > ($4::text, $5::text))
      AND $3::text = CASE WHEN o.state = 'running' AND o.expires_at <= t.now THEN 'uncertain' ELSE o.state END
    ORDER BY o.namespace, o.key
    LIMIT $6::bigint
) o ON true
ORDER BY o.namespace, o.key
