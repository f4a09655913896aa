-- session.drain: ?1 id, ?2 draining (0 or 1). By the primary key.
UPDATE onceward_session SET draining = ?2 WHERE id = ?1
