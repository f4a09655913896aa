-- once.lookup: one key with its body.
-- ?1 namespace, ?2 key. By the primary key.
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, body
FROM onceward_once
WHERE namespace = ?1 AND key = ?2
