-- job.progress: writes down how far a job is, where its attempt is the current one. By onceward_job_id.
-- ?1 namespace, ?2 id, ?3 token, ?4 what is said, ?5 its content type
UPDATE onceward_job
SET result = ?4, result_type = ?5, result_size = length(?4)
WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')
