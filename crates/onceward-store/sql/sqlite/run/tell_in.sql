-- run.tell in the caller's own transaction, on the caller's connection: it arrives if that commits. And run.write, what a
-- step of a run has done: it commits with the effects of the step, or not at all. Before either run `lock` of
-- job/enqueue_in, so that nobody takes the run up until the caller ends; read the clock after it.
--
-- queue  ?1 namespace, ?2 run. Its queue, if it hears anything.
-- tell   ?1 namespace, ?2 run, ?3 id, ?4 at, ?5 word, ?6 name, ?7 data. One row if it is new.
-- write  ?1 namespace, ?2 run, ?3 id, ?4 at, ?5 position, ?6 value, ?7 token of the attempt. One row if it was written: not
--        where the run is not that attempt's any more. The run need not be woken for it.

-- step: queue
SELECT queue FROM onceward_job WHERE namespace = ?1 AND id = ?2 AND state IN ('scheduled', 'ready', 'retrying')

-- step: tell
INSERT INTO onceward_run_inbox (namespace, run, id, at, word, name, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING
RETURNING 1

-- step: write
INSERT INTO onceward_run_inbox (namespace, run, id, at, noted, word, name, data)
SELECT namespace, id, ?3, ?4, 1, 'step', ?5, ?6
FROM onceward_job
WHERE namespace = ?1 AND id = ?2 AND token < ?7 AND state NOT IN ('dead', 'uncertain')
ON CONFLICT DO NOTHING
RETURNING 1
