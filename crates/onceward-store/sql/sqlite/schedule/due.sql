-- schedule.due, by onceward_schedule_due.
--
-- due   ?1 namespace, ?2 wall clock now, ?3 limit.
-- next  ?1 namespace, ?2 wall clock now. When the first one is due of those that are not yet.

-- step: due
SELECT name, version, next_at, definition, payload
FROM onceward_schedule
WHERE namespace = ?1 AND next_at <= ?2
ORDER BY next_at, name
LIMIT ?3

-- step: next
SELECT min(next_at) FROM onceward_schedule WHERE namespace = ?1 AND next_at > ?2
