-- lease.guard: make the holder's own transaction depend on its lease. Runs on the caller's connection.
--
-- lock   ?1 namespace, ?2 key, ?3 token. Changes nothing, but takes the write lock, which a takeover needs as well:
--        until the caller's transaction ends, nobody else can become the holder. No row changed: another token.
-- check  ?1 namespace, ?2 key, ?3 token, ?4 boot_id, ?5 boottime, read after `lock`: 1 if the token is current.
-- Both by the primary key of the key's places.

-- step: lock
UPDATE onceward_lease
SET token = token
WHERE namespace = ?1 AND key = ?2 AND token = ?3

-- step: check
SELECT EXISTS (
    SELECT 1
    FROM onceward_lease
    WHERE namespace = ?1 AND key = ?2 AND token = ?3
        AND released_at IS NULL AND boot_id = ?4 AND expires_boot > ?5
)
