-- run.continue, under the write lock: a run goes on as new. Whether it still is this attempt's, and whether its journal says
-- so, was looked at before. The old journal goes as in run.prune, the new one is written as in run.append.
--
-- payload  ?1 namespace, ?2 run, ?3 arguments.
-- steps    ?1 namespace, ?2 run. What a step has committed is of no place in the new journal.

-- step: payload
UPDATE onceward_job SET payload = ?3 WHERE namespace = ?1 AND id = ?2

-- step: steps
DELETE FROM onceward_run_inbox WHERE namespace = ?1 AND run = ?2 AND word = 'step'
