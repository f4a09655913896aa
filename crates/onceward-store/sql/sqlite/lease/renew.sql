-- lease.renew: the holder is still there. A lease that has expired is not revived.
-- ?1 namespace, ?2 key, ?3 slot, ?4 token, ?5 session, ?6 boot_id, ?7 boottime now, ?8 wall clock now.
-- By the primary key. No row: lost.
UPDATE onceward_lease
SET expires_boot = min(?7 + ttl_us, ifnull(hard_expires_boot, 9223372036854775807)),
    expires_at = ?8 - ?7 + min(?7 + ttl_us, ifnull(hard_expires_boot, 9223372036854775807)),
    heartbeats = heartbeats + 1
WHERE namespace = ?1 AND key = ?2 AND slot = ?3 AND token = ?4 AND session = ?5
    AND released_at IS NULL AND boot_id = ?6 AND expires_boot > ?7
RETURNING expires_at
