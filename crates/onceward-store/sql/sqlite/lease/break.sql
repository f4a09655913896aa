-- lease.break: end somebody's grant. The rows were read under the write lock (lease/acquire, step read).
--
-- break    ?1 namespace, ?2 key, ?3 slot, ?4 token, ?5 wall clock now. By the primary key.
-- history  ?1 namespace, ?2 key, ?3 token, ?4 actor, ?5 at, ?6 reason, ?7 claimed_at, ?8 claimed_by.

-- step: break
UPDATE onceward_lease
SET released_at = ?5
WHERE namespace = ?1 AND key = ?2 AND slot = ?3 AND token = ?4 AND released_at IS NULL

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at, claimed_by)
VALUES ('lease', ?1, ?2, 'broken', ?3, ?4, ?5, ?6, ?7, ?8)
