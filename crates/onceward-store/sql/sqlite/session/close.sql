-- session.close: it has run out from now on, and is cleared away by a rescue, with what it still holds.
-- ?1 id, ?2 token, ?3 boot_id, ?4 boottime now, ?5 wall clock now. By the primary key.
UPDATE onceward_session
SET expires_at = ?5, expires_boot = ?4
WHERE id = ?1 AND token = ?2 AND boot_id = ?3 AND expires_boot > ?4
