-- schedule.write, by the primary key. Its jobs are enqueued in the same transaction.
--
-- make    ?1 namespace, ?2 name, ?3 next_at, ?4 definition, ?5 payload. One that is not there.
-- change  the same, ?6 the version that was seen.

-- step: make
INSERT INTO onceward_schedule (namespace, name, version, next_at, definition, payload) VALUES (?1, ?2, 1, ?3, ?4, ?5)
ON CONFLICT DO NOTHING

-- step: change
UPDATE onceward_schedule
SET version = version + 1, next_at = ?3, definition = ?4, payload = ?5
WHERE namespace = ?1 AND name = ?2 AND version = ?6
