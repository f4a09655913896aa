-- run.wake: the runs for which something has arrived that they don't know of. What follows is decided in Rust.
--
-- unknown
-- failed   ?1 namespace, ?2 run. Whoever tries it again, or resumes it, reads it.

-- step: unknown
SELECT DISTINCT namespace, run FROM onceward_run_inbox INDEXED BY onceward_run_inbox_new WHERE noted = 0

-- step: failed
UPDATE onceward_run_inbox SET noted = 1 WHERE namespace = ?1 AND run = ?2
