-- service.write, by the primary key.
--
-- make    ?1 namespace, ?2 name, ?3 setting. One that nobody has declared.
-- change  ?1 namespace, ?2 name, ?3 setting, ?4 the version that was seen.

-- step: make
INSERT INTO onceward_service (namespace, name, version, setting) VALUES (?1, ?2, 1, ?3) ON CONFLICT DO NOTHING

-- step: change
UPDATE onceward_service SET version = version + 1, setting = ?3 WHERE namespace = ?1 AND name = ?2 AND version = ?4
