-- run.note: what a run knows of, and has no use for yet.
--
-- ?1 namespace, ?2 run, ?3 id.

UPDATE onceward_run_inbox SET noted = 1 WHERE namespace = ?1 AND run = ?2 AND id = ?3
