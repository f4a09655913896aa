-- job.overdue: jobs that have not ended and whose deadline has passed. Which of them somebody runs is found by the claims.
--
-- ?1 namespace, ?2 now
-- Rows: id, token. By onceward_job_overdue.
SELECT id, token
FROM onceward_job
WHERE namespace = ?1 AND instr(spec, '"deadline_us":') > 0 AND state IN ('scheduled', 'ready', 'retrying')
  AND json_extract(spec, '$.deadline_us') <= ?2
ORDER BY json_extract(spec, '$.deadline_us')
