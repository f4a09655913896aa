-- job.rescue: takes jobs from sessions that have run out (J7). What becomes of them is decided by core and written by
-- the step any of job.settle.
--
-- lost: the jobs of sessions that have run out, or that are gone
--   $1 limit
--   Rows: the session (NULL if it is gone), its owner, the claim, its token, its time, now, whether the job was called
--   off; then the columns of the job.
--   A session that somebody has locked is passed over: it begins or settles something.
-- clear: removes claims of which nothing is left, and then sessions
--   Rows: how many sessions went, whether there are more claims of such sessions, and whether any of them has permits.
-- permits: removes permits of sessions that are gone and of which nothing is left. By itself: what was claimed while the
--   session was locked away is seen only by a statement that begins later (J11)
-- Reads sessions and claims: there are few of both. Index: job_pkey (namespace, id).

-- step: lost
WITH lost AS MATERIALIZED (
    SELECT s.id, s.owner
    FROM {schema}.session s
    WHERE s.expires_at <= {clock}
    FOR UPDATE OF s SKIP LOCKED
)
SELECT c.session, c.owner, c.claim, c.token, c.claimed_at, t.now, j.called_off IS NOT NULL,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM (SELECT {clock} AS now OFFSET 0) t
CROSS JOIN (
    SELECT l.id AS session, l.owner, c.id AS claim, c.namespace, c.token,
           c.claimed_at, unnest(c.jobs) AS job
    FROM {schema}.job_claim c
    LEFT JOIN lost l ON l.id = c.session
    WHERE l.id IS NOT NULL OR NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = c.session)
) c
JOIN {schema}.job j ON j.namespace = c.namespace AND j.id = c.job AND j.token < c.token
LIMIT $1::bigint

-- step: clear
WITH lost AS MATERIALIZED (
    SELECT s.id
    FROM {schema}.session s
    WHERE s.expires_at <= {clock}
    FOR UPDATE OF s SKIP LOCKED
), theirs AS MATERIALIZED (
    SELECT c.id, c.session,
           EXISTS (SELECT FROM {schema}.job j
                   WHERE j.namespace = c.namespace AND j.id = ANY (c.jobs) AND j.token < c.token) AS is_open
    FROM {schema}.job_claim c
    WHERE c.session IN (SELECT lost.id FROM lost)
       OR NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = c.session)
), closed AS (
    DELETE FROM {schema}.job_claim c
    USING theirs t
    WHERE c.id = t.id AND NOT t.is_open
), gone AS (
    DELETE FROM {schema}.session s
    USING lost l
    WHERE s.id = l.id AND NOT EXISTS (SELECT FROM theirs t WHERE t.session = l.id AND t.is_open)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), EXISTS (SELECT FROM theirs t WHERE t.is_open),
       EXISTS (SELECT FROM {schema}.job_permit p
               WHERE p.session IN (SELECT lost.id FROM lost)
                  OR NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = p.session))

-- step: permits
DELETE FROM {schema}.job_permit p
WHERE NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = p.session)
  AND NOT EXISTS (SELECT FROM {schema}.job_claim c WHERE c.session = p.session)
