-- lease.list: leases in the order of (namespace, key, slot); the reader stops when it has enough.
-- Both by the primary key.
--
-- of_namespace  ?1 namespace, ?2 key and ?3 slot to start at.
-- of_all        ?1 namespace, ?2 key and ?3 slot to start at.

-- step: of_namespace
SELECT slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id, ttl_us,
    lock_delay_us, heartbeats, released_at, metadata, namespace, key
FROM onceward_lease
WHERE namespace = ?1 AND (key, slot) >= (?2, ?3)
ORDER BY key, slot

-- step: of_all
SELECT slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id, ttl_us,
    lock_delay_us, heartbeats, released_at, metadata, namespace, key
FROM onceward_lease
WHERE (namespace, key, slot) >= (?1, ?2, ?3)
ORDER BY namespace, key, slot
