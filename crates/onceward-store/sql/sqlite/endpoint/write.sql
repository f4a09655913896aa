-- endpoint.write, by the primary key.
--
-- make    ?1 namespace, ?2 name, ?3 definition. One that is not there.
-- change  the same, ?4 the version that was seen.
-- told    ?1 namespace, ?2 name, ?3 event, ?4 version, ?5 actor, ?6 at, ?7 reason.

-- step: make
INSERT INTO onceward_endpoint (namespace, name, version, definition) VALUES (?1, ?2, 1, ?3)
ON CONFLICT DO NOTHING

-- step: change
UPDATE onceward_endpoint SET version = version + 1, definition = ?3 WHERE namespace = ?1 AND name = ?2 AND version = ?4

-- step: told
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason)
VALUES ('endpoint', ?1, ?2, ?3, ?4, ?5, ?6, ?7)
