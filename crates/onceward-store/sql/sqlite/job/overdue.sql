-- job.overdue: jobs that have not ended and whose deadline has passed. Which of them somebody runs is found by the claims.
--
-- ?1 namespace, ?2 now
-- Rows: id, token. By onceward_job_overdue; the number is later than every time.
SELECT id, token
FROM onceward_job
WHERE namespace = ?1
  AND (instr(spec, '"deadline_us":') > 0 OR instr(spec, '"expiry_us":') > 0)
  AND state IN ('scheduled', 'ready', 'retrying')
  AND min(ifnull(json_extract(spec, '$.deadline_us'), 4611686018427387903),
          enqueued_at + ifnull(json_extract(spec, '$.expiry_us'), 4611686018427387903)) <= ?2
ORDER BY min(ifnull(json_extract(spec, '$.deadline_us'), 4611686018427387903),
             enqueued_at + ifnull(json_extract(spec, '$.expiry_us'), 4611686018427387903))
