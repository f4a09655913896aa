-- once.list: keys in the order of (namespace, key), without their bodies; the reader stops when it has enough.
--
-- of_namespace       ?1 namespace, ?2 key to start at, ?3 state as written or NULL. By the primary key.
-- of_all             ?1 namespace and ?2 key to start at, ?3 state as written or NULL. By the primary key.
-- open_of_namespace  ?1 namespace, ?2 key to start at. What is not finished, by onceward_once_open.
-- open_of_all        ?1 namespace and ?2 key to start at. What is not finished, by onceward_once_open.

-- step: of_namespace
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, NULL, namespace, key
FROM onceward_once
WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR state = ?3)
ORDER BY key

-- step: of_all
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, NULL, namespace, key
FROM onceward_once
WHERE (namespace, key) >= (?1, ?2) AND (?3 IS NULL OR state = ?3)
ORDER BY namespace, key

-- step: open_of_namespace
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, NULL, namespace, key
FROM onceward_once
WHERE namespace = ?1 AND key >= ?2 AND finished_at IS NULL
ORDER BY key

-- step: open_of_all
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, NULL, namespace, key
FROM onceward_once
WHERE (namespace, key) >= (?1, ?2) AND finished_at IS NULL
ORDER BY namespace, key
