-- run.tell, under the write lock.
--
-- standing  ?1 namespace, ?2 run. The state and the queue of a run, and whether it is paused.
-- told      ?1 namespace, ?2 run, ?3 id, ?4 at, ?5 word, ?6 name, ?7 data. What is told again stays as it was.

-- step: standing
SELECT state, queue, paused_at IS NOT NULL FROM onceward_job WHERE namespace = ?1 AND id = ?2
UNION ALL
SELECT state, queue, 0 FROM onceward_job_done WHERE namespace = ?1 AND id = ?2

-- step: told
INSERT INTO onceward_run_inbox (namespace, run, id, at, word, name, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING
