-- trigger.write, by the primary key. Its jobs are enqueued in the same transaction.
--
-- make        ?1 namespace, ?2 name, ?3 definition, ?4 payload. One that is not there.
-- change      the same, ?5 the version that was seen.
-- unlistened  ?1 namespace, ?2 name. What it listens to.
-- listened    ?1 namespace, ?2 name, ?3 state, ?4 kind or NULL, ?5 queue or NULL, ?6 whether the payload is wanted.
-- acted_on    ?1 number, ?2 namespace, ?3 name. By the rowid.

-- step: make
INSERT INTO onceward_trigger (namespace, name, version, definition, payload) VALUES (?1, ?2, 1, ?3, ?4)
ON CONFLICT DO NOTHING

-- step: change
UPDATE onceward_trigger
SET version = version + 1, definition = ?3, payload = ?4
WHERE namespace = ?1 AND name = ?2 AND version = ?5

-- step: unlistened
DELETE FROM onceward_trigger_watch WHERE namespace = ?1 AND trigger = ?2

-- step: listened
INSERT INTO onceward_trigger_watch (namespace, trigger, state, kind, queue, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)

-- step: acted_on
DELETE FROM onceward_trigger_heard WHERE number = ?1 AND namespace = ?2 AND trigger = ?3
