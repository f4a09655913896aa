-- run.fork, under the write lock.
--
-- reach  ?1 namespace, ?2 run, ?3 until which entry, ?4 token. How many entries it has before that, by attempts up to that one.
-- token  ?1 place, ?2 token. That of an attempt which has ended: whoever takes the run up reads its journal.

-- step: reach
SELECT count(*) FROM onceward_run_journal WHERE namespace = ?1 AND run = ?2 AND seq < ?3 AND token <= ?4

-- step: token
UPDATE onceward_job SET token = ?2 WHERE place = ?1
