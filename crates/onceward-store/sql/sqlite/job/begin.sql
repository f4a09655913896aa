-- job.begin, under the write lock: a handler is about to start. By onceward_job_id and onceward_job_key_dedupe.
--
-- begin  ?1 namespace, ?2 id, ?3 token. Nothing is changed where the attempt is no longer the current one.
-- free   ?1 namespace, ?2 id. Its dedupe key, if that was to last until now.

-- step: begin
UPDATE onceward_job
SET begun = ?3
WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')

-- step: free
DELETE FROM onceward_job_key WHERE namespace = ?1 AND id = ?2 AND purpose = 'dedupe' AND until_started
