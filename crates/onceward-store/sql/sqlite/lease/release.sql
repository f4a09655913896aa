-- lease.release: give a lease back. Only the row's own token may, and late is not too late.
--
-- release  ?1 namespace, ?2 key, ?3 token, ?4 wall clock now. By the primary key of the key's places.
--          No row: the token is no longer the row's.
-- history  ?1 namespace, ?2 key, ?3 slot, ?4 reason. Written from the row that was released.

-- step: release
UPDATE onceward_lease
SET released_at = ?4
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND released_at IS NULL
RETURNING slot

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'lease', namespace, key, 'released', token, owner, released_at, ?4, granted_at
FROM onceward_lease
WHERE namespace = ?1 AND key = ?2 AND slot = ?3
