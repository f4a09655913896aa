-- once.renew: the function is still running. A claim that has expired is not revived.
-- ?1 namespace, ?2 key, ?3 token, ?4 session, ?5 boot_id, ?6 boottime now, ?7 wall clock now.
-- By the primary key. No row: lost.
UPDATE onceward_once
SET expires_boot = min(?6 + ttl_us, ifnull(hard_expires_boot, 9223372036854775807)),
    expires_at = ?7 - ?6 + min(?6 + ttl_us, ifnull(hard_expires_boot, 9223372036854775807))
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND session = ?4
    AND state = 'running' AND boot_id = ?5 AND expires_boot > ?6
RETURNING expires_at
