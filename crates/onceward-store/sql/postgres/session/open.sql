-- session.open: opens a session; the same id again finds it.
--
-- $1 id  $2 owner  $3 ttl_ms  $4 about
-- Rows: id, owner, token, started_at, seen_at, expires_at, ttl_ms, draining, about, now; none if somebody else was
-- opening the same one: ask again.
-- Index: session_pkey (id).

WITH made AS (
    INSERT INTO {schema}.session (id, owner, token, started_at, seen_at, expires_at, ttl_ms, about)
    SELECT $1::uuid, $2::text, (extract(epoch FROM t.now) * 1000000)::bigint, t.now, t.now,
           t.now + $3::bigint * interval '1 millisecond', $3::bigint, $4::text
    FROM (SELECT {clock} AS now) t
    ON CONFLICT DO NOTHING
    RETURNING *
)
SELECT s.id, s.owner, s.token, s.started_at, s.seen_at, s.expires_at, s.ttl_ms, s.draining, s.about, {clock} AS now
FROM (
    SELECT made.* FROM made
    UNION ALL
    SELECT s.* FROM {schema}.session s WHERE s.id = $1::uuid
) s
