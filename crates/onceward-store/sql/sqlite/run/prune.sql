-- run.prune, under the write lock.
--
-- next     ?1 namespace, ?2 run. The run of the next journal.
-- known    ?1 namespace, ?2 run. Whether there is such a run.
-- journal  ?1 namespace, ?2 run.
-- inbox    ?1 namespace, ?2 run.

-- step: next
SELECT namespace, run FROM onceward_run_journal WHERE (namespace, run) > (?1, ?2) ORDER BY namespace, run LIMIT 1

-- step: known
SELECT EXISTS (SELECT 1 FROM onceward_job WHERE namespace = ?1 AND id = ?2)
    OR EXISTS (SELECT 1 FROM onceward_job_done WHERE namespace = ?1 AND id = ?2)

-- step: journal
DELETE FROM onceward_run_journal WHERE namespace = ?1 AND run = ?2

-- step: inbox
DELETE FROM onceward_run_inbox WHERE namespace = ?1 AND run = ?2
