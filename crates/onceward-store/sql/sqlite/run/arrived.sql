-- run.arrived: what has arrived for a run; put in order in Rust.
--
-- ?1 namespace, ?2 run.

SELECT id, at, word, name, data
FROM onceward_run_inbox
WHERE namespace = ?1 AND run = ?2
