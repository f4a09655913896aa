-- prune: forget what may be forgotten, a bounded number of rows of each kind. In this order.
--
-- history  ?1 wall clock before which, ?2 how many. The oldest rows, by the primary key: ids grow with time.
-- live     as history. The same for what stands in the rows of once keys still: the oldest, by the rowid.
-- told     ?1 wall clock now, ?2 how many. The history of what `once` is going to remove.
-- once     as told. Outcomes whose retention has ended, by onceward_once_retained. Never anything running or
--          uncertain, nor a token the clock has not passed: it might be drawn again.
-- leases   ?1 wall clock now, ?2 wall clock before which, ?3 boottime before which, ?4 boot_id, ?5 how many. Given
--          back or lost (and their lock delay over) that long ago. A token the clock has not passed stays. Rows: what
--          nobody has written the end of yet, or nothing.
-- waiting  ?1 boot_id, ?2 boottime now. Places that were given up.

-- step: history
DELETE FROM onceward_history
WHERE at <= ?1 AND id IN (SELECT id FROM onceward_history ORDER BY id LIMIT ?2)

-- step: live
UPDATE onceward_once
SET untold = 0
WHERE untold AND finished_at <= ?1 AND rowid IN (SELECT rowid FROM onceward_once ORDER BY rowid LIMIT ?2)

-- step: told
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, CASE state WHEN 'released' THEN 'not_started' ELSE state END, token, owner,
    finished_at, reason, claimed_at
FROM onceward_once
WHERE untold AND rowid IN (
    SELECT rowid FROM onceward_once WHERE retain_until <= ?1 ORDER BY retain_until LIMIT ?2
) AND state IN ('done', 'failed', 'released') AND token < ?1

-- step: once
DELETE FROM onceward_once
WHERE rowid IN (
    SELECT rowid FROM onceward_once WHERE retain_until <= ?1 ORDER BY retain_until LIMIT ?2
) AND state IN ('done', 'failed', 'released') AND token < ?1

-- step: leases
DELETE FROM onceward_lease
WHERE (namespace, key, slot) IN (
    SELECT namespace, key, slot
    FROM onceward_lease
    WHERE token < ?1 AND CASE
        WHEN released_at IS NOT NULL THEN released_at <= ?2
        WHEN boot_id = ?4 THEN expires_boot + lock_delay_us <= ?3
        ELSE expires_at + lock_delay_us <= ?2
    END
    LIMIT ?5
)
RETURNING namespace, key, token, owner, granted_at, expires_at, released_at IS NULL

-- step: waiting
DELETE FROM onceward_lease_waiter
WHERE boot_id <> ?1 OR expires_boot <= ?2
