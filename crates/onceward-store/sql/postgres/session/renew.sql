-- session.renew: extends a session that has not run out, and says what its process should know. One statement, whatever
-- it runs.
--
-- renew
--   $1 id  $2 token
--   Rows: expires_at, draining, then the namespace and the id of a job that was called off, or that is paused, and which
--   of the two (NULL: none); no row if it was not renewed.
--   As lease.renew: the expiry is checked after the lock is held (E17), a locked row is passed over, nobody waits for
--   the disk.
-- seen: the same parameters; a row if the session has not run out: a lock was in the way.
-- Index: session_pkey (id); where anything was called off or is paused, job_claim_of_session (session),
-- job_cancel_pkey, job_pkey; the first of job_paused.

-- step: renew
WITH setting AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), held AS MATERIALIZED (
    SELECT s.id, s.expires_at, s.ttl_ms
    FROM setting
    JOIN {schema}.session s ON s.id = $1::uuid
    WHERE s.token = $2::bigint
    FOR NO KEY UPDATE OF s SKIP LOCKED
), renewed AS (
    UPDATE {schema}.session s
    SET expires_at = h.now + h.ttl_ms * interval '1 millisecond', seen_at = h.now
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE s.id = h.id AND h.expires_at > h.now
    RETURNING s.id, s.expires_at, s.draining
), mine AS MATERIALIZED (
    SELECT c.namespace, c.token, unnest(c.jobs) AS job
    FROM renewed r
    JOIN {schema}.job_claim c ON c.session = r.id
    -- Nearly always nothing was called off and nothing is paused, and one look each tells.
    WHERE EXISTS (SELECT FROM {schema}.job_cancel)
       OR (SELECT p.paused_at FROM {schema}.job p WHERE p.paused_at IS NOT NULL ORDER BY p.paused_at LIMIT 1) IS NOT NULL
), called_off AS (
    SELECT m.namespace, m.job, 'cancel'::text AS what
    FROM mine m
    JOIN {schema}.job_cancel n ON n.namespace = m.namespace AND n.id = m.job
    JOIN {schema}.job j ON j.namespace = m.namespace AND j.id = m.job
    WHERE j.token < m.token
), paused AS (
    SELECT m.namespace, m.job, 'pause'::text AS what
    FROM mine m
    CROSS JOIN LATERAL (
        SELECT j.token, j.paused_at, j.state
        FROM {schema}.job j
        WHERE j.namespace = m.namespace AND j.id = m.job
        OFFSET 0
    ) j
    WHERE j.token < m.token AND j.paused_at IS NOT NULL AND j.state NOT IN ('dead', 'uncertain')
)
SELECT r.expires_at, r.draining, c.namespace, c.job, c.what
FROM renewed r
LEFT JOIN (SELECT * FROM called_off UNION ALL SELECT * FROM paused) c ON true

-- step: seen
SELECT s.expires_at
FROM {schema}.session s
WHERE s.id = $1::uuid AND s.token = $2::bigint AND s.expires_at > {clock}
