-- lease.lookup: every place of one key.
-- ?1 namespace, ?2 key. By the primary key.
SELECT slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id, ttl_us,
    lock_delay_us, heartbeats, released_at, metadata
FROM onceward_lease
WHERE namespace = ?1 AND key = ?2
ORDER BY slot
