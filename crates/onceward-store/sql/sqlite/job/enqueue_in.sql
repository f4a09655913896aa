-- job.enqueue in the caller's own transaction, on the caller's connection: the job exists exactly if the caller commits.
-- Between these steps run the ones of job/enqueue, and for a job that makes room for another those of job/move.
-- The first one takes the write lock, so read the clock after it has been got.
--
-- lock     ?1 namespace, ?2 id. Changes nothing, but takes the write lock.
-- insert   As in job/enqueue. The place, or no row where the job is there.
-- waiting  ?1 namespace, ?2 id. What a job that may wait is put elsewhere by.
-- existing ?1 namespace, ?2 id. The state of the job that a key belongs to, as written.
-- By onceward_job_id, onceward_job_done_id.

-- step: lock
UPDATE onceward_job SET token = token WHERE namespace = ?1 AND id = ?2

-- step: existing
SELECT state FROM onceward_job WHERE namespace = ?1 AND id = ?2
UNION ALL
SELECT state FROM onceward_job_done WHERE namespace = ?1 AND id = ?2
LIMIT 1

-- step: insert
INSERT INTO onceward_job (
    namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type, spec
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT DO NOTHING
RETURNING place

-- step: waiting
SELECT place, kind, queue, priority, state, token, attempt, run_at, spec
FROM onceward_job
WHERE namespace = ?1 AND id = ?2
