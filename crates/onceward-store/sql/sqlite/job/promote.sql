-- job.promote: what is due goes into its lane. `next` is asked of a reader before, so that nothing due costs no lock.
--
-- next  When the next one is due: the left edge of the primary key.
-- due   ?1 wall clock now, ?2 how many. By the primary key.
-- take  ?1 run_at, ?2 id, ?3 namespace.
-- read  ?1 place. Without payload and result.

-- step: next
SELECT run_at FROM onceward_job_later ORDER BY run_at, id, namespace LIMIT 1

-- step: due
SELECT run_at, id, namespace, job
FROM onceward_job_later
WHERE run_at <= ?1
ORDER BY run_at, id, namespace
LIMIT ?2

-- step: take
DELETE FROM onceward_job_later WHERE run_at = ?1 AND id = ?2 AND namespace = ?3

-- step: read
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past
FROM onceward_job
WHERE place = ?1
