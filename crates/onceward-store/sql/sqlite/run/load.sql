-- run.load: reads a part of a journal.
--
-- ?1 namespace, ?2 run, ?3 from seq, ?4 limit. In order.

SELECT seq, at, token, position, op, phase, name, data
FROM onceward_run_journal
WHERE namespace = ?1 AND run = ?2 AND seq >= ?3
ORDER BY seq
LIMIT ?4
