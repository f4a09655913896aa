-- prune: forget what may be forgotten, a bounded number of rows of each kind. In this order.
--
-- history  ?1 wall clock before which, ?2 how many. The oldest rows, by the primary key: ids grow with time.
-- live     as history; ?3 the rowid to go on behind, ?4 how many rows to look at. The same for what stands in the rows
--          of once keys still, by the rowid.
-- live_to  ?1 the rowid to go on behind, ?2 how many rows to look at. The rowid of the last of them, and how many they are.
-- told     ?1 wall clock now, ?2 how many. The history of what `once` is going to remove.
-- once     as told. Outcomes whose retention has ended, by onceward_once_retained. Never anything running or
--          uncertain, nor a token the clock has not passed: it might be drawn again.
-- leases   ?1 wall clock now, ?2 wall clock before which, ?3 boottime before which, ?4 boot_id, ?5 how many, ?6 ?7 ?8
--          the key and place to go on behind, ?9 how many rows to look at. Given
--          back or lost (and their lock delay over) that long ago. A token the clock has not passed stays. Rows: what
--          nobody has written the end of yet, or nothing.
-- lease_to ?1 ?2 ?3 the key and place to go on behind, ?4 how many rows to skip. The row behind those, if there is one.
-- waiting  ?1 boot_id, ?2 boottime now. Places that were given up.

-- step: history
DELETE FROM onceward_history
WHERE at <= ?1 AND id IN (SELECT id FROM onceward_history ORDER BY id LIMIT ?2)

-- step: live
UPDATE onceward_once
SET untold = 0
WHERE rowid IN (
    SELECT place
    FROM (
        SELECT rowid AS place, untold, finished_at FROM onceward_once WHERE rowid > ?3 ORDER BY rowid LIMIT ?4
    )
    WHERE untold AND finished_at <= ?1
    LIMIT ?2
)

-- step: live_to
SELECT max(place), count(*)
FROM (SELECT rowid AS place FROM onceward_once WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)

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
    FROM (
        SELECT namespace, key, slot, token, expires_at, expires_boot, boot_id, lock_delay_us, released_at
        FROM onceward_lease
        WHERE (namespace, key, slot) > (?6, ?7, ?8)
        ORDER BY namespace, key, slot
        LIMIT ?9
    )
    WHERE token < ?1 AND CASE
        WHEN released_at IS NOT NULL THEN released_at <= ?2
        WHEN boot_id = ?4 THEN expires_boot + lock_delay_us <= ?3
        ELSE expires_at + lock_delay_us <= ?2
    END
    LIMIT ?5
)
RETURNING namespace, key, token, owner, granted_at, expires_at, released_at IS NULL

-- step: lease_to
SELECT namespace, key, slot
FROM onceward_lease
WHERE (namespace, key, slot) > (?1, ?2, ?3)
ORDER BY namespace, key, slot
LIMIT 1 OFFSET ?4

-- step: waiting
DELETE FROM onceward_lease_waiter
WHERE boot_id <> ?1 OR expires_boot <= ?2
