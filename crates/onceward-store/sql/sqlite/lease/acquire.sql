-- lease.acquire: take a place of a lease, or see who has it.
-- The write lock is held; the rules of the core decide over what was read, and these steps write it down.
--
-- read     ?1 namespace, ?2 key. Every place of the key, by the primary key.
-- ahead    ?1 namespace, ?2 key, ?3 session, ?4 boot_id, ?5 boottime now: whether a live fair ticket stands before
--          the session's own, or any at all if it has none. By the primary key of the waiting.
-- grant    a place nobody had: ?1 namespace, ?2 key, ?3 slot, ?4 token, ?5 owner, ?6 session, ?7 granted_at,
--          ?8 expires_at, ?9 expires_boot, ?10 hard_expires_boot, ?11 boot_id, ?12 ttl_us, ?13 lock_delay_us,
--          ?14 metadata.
-- regrant  a place somebody had: as grant, and ?15 the token that was read.
-- history  ?1 namespace, ?2 key, ?3 event, ?4 token, ?5 actor, ?6 at, ?7 claimed_at, ?8 claimed_by.

-- step: read
SELECT slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id, ttl_us,
    lock_delay_us, heartbeats, released_at, metadata
FROM onceward_lease
WHERE namespace = ?1 AND key = ?2
ORDER BY slot

-- step: ahead
SELECT EXISTS (
    SELECT 1
    FROM onceward_lease_waiter AS other
    WHERE other.namespace = ?1 AND other.key = ?2 AND other.session <> ?3
        AND other.fair AND other.boot_id = ?4 AND other.expires_boot > ?5
        AND other.number < ifnull((
            SELECT mine.number
            FROM onceward_lease_waiter AS mine
            WHERE mine.namespace = ?1 AND mine.key = ?2 AND mine.session = ?3
                AND mine.fair AND mine.boot_id = ?4 AND mine.expires_boot > ?5
        ), 9223372036854775807)
)

-- step: grant
INSERT INTO onceward_lease (
    namespace, key, slot, token, owner, session, granted_at, expires_at, expires_boot, hard_expires_boot, boot_id,
    ttl_us, lock_delay_us, metadata, heartbeats
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0)

-- step: regrant
UPDATE onceward_lease
SET token = ?4, owner = ?5, session = ?6, granted_at = ?7, expires_at = ?8, expires_boot = ?9,
    hard_expires_boot = ?10, boot_id = ?11, ttl_us = ?12, lock_delay_us = ?13, metadata = ?14, heartbeats = 0,
    released_at = NULL
WHERE namespace = ?1 AND key = ?2 AND slot = ?3 AND token = ?15

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, claimed_at, claimed_by)
VALUES ('lease', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
