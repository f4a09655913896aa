-- schedule.remove: ?1 namespace, ?2 name, ?3 version. By the primary key.
DELETE FROM onceward_schedule WHERE namespace = ?1 AND name = ?2 AND version = ?3
