-- service.look: everything the next step of a runner is decided from, at one moment.
--
-- $1 namespace  $2 service  $3 the key of its lease  $4 how its runners say that they run it  $5 how many terms at most
-- Rows: what, then the columns that it has, the others NULL:
--   now      t1
--   service  n1 version, a setting
--   runner   session, a owner, t1 started_at, t2 seen_at, t3 expires_at, flag draining
--   held     n1 token, t1 until when the lease is closed to others, flag whether only a step of the clock explains that
--   term     n1 cycle, n2 cycles, n3 token, session, a owner, b part, c outcome, d reason, t1 due_at, t2 started_at,
--            t3 ended_at; the newest cycles, and as many of those that somebody has asked for in their time, none of
--            them due, or recorded as missed, in a time that has not come; and all that run
-- Indexes: service_pkey, term_pkey, term_running, lease_pkey. Sessions are few.

WITH t AS MATERIALIZED (
    SELECT {clock} AS now
), of_cycles AS MATERIALIZED (
    SELECT m.*
    FROM {schema}.term m
    WHERE m.namespace = $1::text AND m.service = $2::text AND m.part NOT LIKE 'asked-%'
      AND m.due_at <= (SELECT t.now + interval '1 minute' FROM t)
      AND (m.outcome <> 'missed' OR m.started_at <= (SELECT t.now + interval '1 minute' FROM t))
    ORDER BY m.cycle DESC, m.part DESC
    LIMIT $5::bigint
), asked AS MATERIALIZED (
    SELECT m.*
    FROM {schema}.term m
    WHERE m.namespace = $1::text AND m.service = $2::text AND m.part LIKE 'asked-%'
      AND m.cycle >= coalesce((SELECT min(c.cycle) FROM of_cycles c), -9223372036854775808)
      AND m.due_at <= (SELECT t.now + interval '1 minute' FROM t)
    ORDER BY m.cycle DESC, m.part DESC
    LIMIT $5::bigint
), terms AS (
    SELECT c.* FROM of_cycles c
    UNION
    SELECT a.* FROM asked a
    UNION
    SELECT m.*
    FROM {schema}.term m
    WHERE m.namespace = $1::text AND m.service = $2::text AND m.outcome = 'running'
)
SELECT 'now' AS what, NULL::bigint AS n1, NULL::bigint AS n2, NULL::bigint AS n3, NULL::uuid AS session, NULL::text AS a,
       NULL::text AS b, NULL::text AS c, NULL::text AS d, t.now AS t1, NULL::timestamptz AS t2, NULL::timestamptz AS t3,
       NULL::boolean AS flag
FROM t
UNION ALL
SELECT 'service', s.version, NULL, NULL, NULL, s.setting, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM {schema}.service s
WHERE s.namespace = $1::text AND s.name = $2::text
UNION ALL
SELECT 'runner', NULL, NULL, NULL, r.id, r.owner, NULL, NULL, NULL, r.started_at, r.seen_at, r.expires_at, r.draining
FROM {schema}.session r
WHERE strpos(r.about, $4::text) > 0
UNION ALL
SELECT 'held', l.token, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       l.expires_at + l.lock_delay_ms * interval '1 millisecond', NULL, NULL,
       l.expires_at > t.now + l.ttl_ms * interval '1 millisecond' + interval '1 second'
FROM t
JOIN {schema}.lease l ON l.namespace = $1::text AND l.key = $3::text AND l.slot = 0
WHERE l.released_at IS NULL AND l.expires_at + l.lock_delay_ms * interval '1 millisecond' > t.now
UNION ALL
SELECT 'term', m.cycle, m.cycles, m.token, m.session, m.owner, m.part, m.outcome, m.reason, m.due_at, m.started_at,
       m.ended_at, NULL
FROM terms m
