-- trigger.list: ?1 namespace, ?2 name or NULL, ?3 only what comes after this one or NULL, ?4 limit. By the primary key.
SELECT name, version, definition, payload
FROM onceward_trigger
WHERE namespace = ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR name > ?3)
ORDER BY name
LIMIT ?4
