-- session.list: every session, which are few. No parameters; in the order of the primary key.
SELECT id, owner, token, started_at, seen_at, expires_at, expires_boot, boot_id, ttl_us, draining, about
FROM onceward_session
