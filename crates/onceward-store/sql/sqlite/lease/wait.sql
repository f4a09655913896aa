-- lease.wait: take or keep a place among those who wait. All by the primary key of the waiting.
--
-- tidy   ?1 namespace, ?2 key, ?3 boot_id, ?4 boottime now. Places that were given up go.
-- keep   ?1 namespace, ?2 key, ?3 session, ?4 boot_id, ?5 expires_boot. No row: there is no place to keep.
-- last   ?1 namespace, ?2 key. The largest number given out.
-- take   ?1 namespace, ?2 key, ?3 session, ?4 boot_id, ?5 expires_boot, ?6 number, ?7 fair.

-- step: tidy
DELETE FROM onceward_lease_waiter
WHERE namespace = ?1 AND key = ?2 AND (boot_id <> ?3 OR expires_boot <= ?4)

-- step: keep
UPDATE onceward_lease_waiter
SET boot_id = ?4, expires_boot = ?5
WHERE namespace = ?1 AND key = ?2 AND session = ?3
RETURNING number, fair

-- step: last
SELECT max(number)
FROM onceward_lease_waiter
WHERE namespace = ?1 AND key = ?2

-- step: take
INSERT INTO onceward_lease_waiter (namespace, key, session, boot_id, expires_boot, number, fair)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
