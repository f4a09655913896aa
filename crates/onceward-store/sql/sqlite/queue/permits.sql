-- queue.permits: what a session may do in a limited queue, under the write lock; core decides.
--
-- read    ?1 namespace, ?2 queue. What it is limited to, and what is left; no row if it is not. By the primary keys.
-- held    ?1 namespace, ?2 queue, ?3 setting. All permits that count. By the primary key.
-- one     ?1 namespace, ?2 queue, ?3 session, ?4 setting. The one of a session.
-- fill    ?1 namespace, ?2 queue, ?3 tokens, ?4 filled_at, ?5 lent, ?6 unsettled.
-- grant   ?1 namespace, ?2 queue, ?3 session, ?4 setting, ?5 wanted, ?6 share, ?7 held, ?8 starts, ?9 starts_until,
--         ?10 asked_at.
-- spend   ?1 namespace, ?2 queue, ?3 session, ?4 how many starts were used by a claim.
-- forget  Permits of sessions that are gone and of which nothing is left to rescue. There are few of them.

-- step: read
SELECT q.concurrency, q.rate_count, q.rate_us, q.burst, q.setting, q.limits_at, l.tokens, l.filled_at, l.lent, l.unsettled
FROM onceward_job_queue AS q
INNER JOIN onceward_job_limit AS l ON l.namespace = q.namespace AND l.queue = q.queue
WHERE q.namespace = ?1 AND q.queue = ?2 AND q.limits_at IS NOT NULL

-- step: held
SELECT session, setting, wanted, share, held, starts, starts_until, asked_at
FROM onceward_job_permit
WHERE namespace = ?1 AND queue = ?2 AND setting = ?3

-- step: one
SELECT session, setting, wanted, share, held, starts, starts_until, asked_at
FROM onceward_job_permit
WHERE namespace = ?1 AND queue = ?2 AND session = ?3 AND setting = ?4
    AND EXISTS (SELECT 1 FROM onceward_session WHERE id = ?3)

-- step: fill
UPDATE onceward_job_limit
SET tokens = ?3, filled_at = ?4, lent = ?5, unsettled = unsettled AND ?6
WHERE namespace = ?1 AND queue = ?2

-- step: grant
INSERT OR REPLACE INTO onceward_job_permit (
    namespace, queue, session, setting, wanted, share, held, starts, starts_until, asked_at
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)

-- step: spend
UPDATE onceward_job_permit SET starts = starts - ?4 WHERE namespace = ?1 AND queue = ?2 AND session = ?3

-- step: forget
DELETE FROM onceward_job_permit
WHERE NOT EXISTS (SELECT 1 FROM onceward_session WHERE onceward_session.id = onceward_job_permit.session)
    AND NOT EXISTS (SELECT 1 FROM onceward_job_claim AS claim WHERE claim.session = onceward_job_permit.session)
