-- lease.release: give a lease back. Only the row's own token may, and late is not too late.
-- The write lock is held; the rules of the core decide over what was read, and these steps write it down.
--
-- read     ?1 namespace, ?2 key. Every place of the key.
-- release  ?1 namespace, ?2 key, ?3 slot, ?4 token, ?5 wall clock now.
-- history  ?1 namespace, ?2 key, ?3 token, ?4 actor, ?5 at, ?6 reason, ?7 claimed_at.
-- All by the primary key.

-- step: read
SELECT slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id, ttl_us,
    lock_delay_us, heartbeats, released_at, metadata
FROM onceward_lease
WHERE namespace = ?1 AND key = ?2
ORDER BY slot

-- step: release
UPDATE onceward_lease
SET released_at = ?5
WHERE namespace = ?1 AND key = ?2 AND slot = ?3 AND token = ?4 AND released_at IS NULL

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
VALUES ('lease', ?1, ?2, 'released', ?3, ?4, ?5, ?6, ?7)
