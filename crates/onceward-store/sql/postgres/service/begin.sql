-- service.begin: begins a term under the lease of the service, if nobody has begun its cycle.
--
-- $1 namespace  $2 service  $3 cycle  $4 part  $5 due_at  $6 not_after  $7 session  $8 owner  $9 token  $10 key of the lease
-- Rows: one: begun, whether the lease is held under this token, whether the time is over.
-- The lease is locked as a guard does it: its renewals pass, takeovers wait (L4). Its expiry and the time are looked at
-- once it is. A cycle that was handed over is begun again; the same term sent again has begun.
-- What was recorded as missed by a clock that was ahead stands for nothing.
-- Indexes: lease_pkey, term_pkey (namespace, service, cycle, part).

{bound}WITH held AS MATERIALIZED (
    SELECT l.expires_at, l.released_at
    FROM {bounded}{schema}.lease l
    WHERE l.namespace = $1::text AND l.key = $10::text AND l.slot = 0 AND l.token = $9::bigint
    FOR KEY SHARE OF l
), current AS MATERIALIZED (
    SELECT h.now
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE h.released_at IS NULL AND h.expires_at > h.now
), earlier AS MATERIALIZED (
    SELECT m.cycle + m.cycles AS until
    FROM {schema}.term m
    WHERE m.namespace = $1::text AND m.service = $2::text AND m.cycle < $3::bigint AND m.part = $4::text
      AND (m.outcome <> 'missed' OR m.started_at <= (SELECT c.now + interval '1 minute' FROM current c))
    ORDER BY m.cycle DESC
    LIMIT 1
), made AS (
    INSERT INTO {schema}.term AS m (namespace, service, cycle, part, due_at, cycles, session, owner, token, started_at,
                                    outcome)
    SELECT $1::text, $2::text, $3::bigint, $4::text, $5::timestamptz, 1, $7::uuid, $8::text, $9::bigint, c.now, 'running'
    FROM current c
    WHERE c.now < $6::timestamptz AND NOT EXISTS (SELECT FROM earlier e WHERE e.until > $3::bigint)
    ON CONFLICT (namespace, service, cycle, part)
    DO UPDATE SET due_at = excluded.due_at, cycles = 1, session = excluded.session, owner = excluded.owner, token = excluded.token,
                  started_at = CASE WHEN m.outcome = 'running' THEN m.started_at ELSE excluded.started_at END,
                  ended_at = NULL, outcome = 'running', reason = NULL
    WHERE m.outcome = 'handed_over' OR (m.outcome = 'running' AND m.token = excluded.token)
       OR (m.outcome = 'missed' AND m.started_at > excluded.started_at + interval '1 minute')
    RETURNING m.token
)
SELECT EXISTS (SELECT FROM made)
       OR EXISTS (SELECT FROM {schema}.term m
                  WHERE m.namespace = $1::text AND m.service = $2::text AND m.cycle = $3::bigint AND m.part = $4::text
                    AND m.token = $9::bigint AND m.outcome = 'running') AS begun,
       EXISTS (SELECT FROM current) AS is_current,
       coalesce((SELECT c.now >= $6::timestamptz FROM current c), false) AS is_late
