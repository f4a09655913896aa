-- job.outstanding: what waits and is in no lane yet. What is in a lane is found by job.lanes, what runs by the claims.
--
-- later  ?1 namespace, ?2 queue, ?3 up to when. What is due by then, or to be tried again. By onceward_job_later_queue.
-- held   ?1 namespace. What waits for others of its ordering key. By the primary key.
-- runs   ?1 namespace, ?2 id, ?3 token. A job that runs under a claim with this token. By onceward_job_id.
-- Rows of all: queue, kind, spec.

-- step: later
SELECT j.queue, j.kind, j.spec
FROM onceward_job_later l
JOIN onceward_job j ON j.place = l.job
WHERE l.namespace = ?1 AND l.queue = ?2 AND (l.run_at <= ?3 OR j.state = 'retrying')

-- step: held
SELECT j.queue, j.kind, j.spec
FROM onceward_job_held h
JOIN onceward_job j ON j.place = h.job
WHERE h.namespace = ?1

-- step: runs
SELECT queue, kind, spec
FROM onceward_job
WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')
