-- session.open, by the primary key.
--
-- read    ?1 id. The session, if it was opened before.
-- insert  ?1 id, ?2 owner, ?3 token, ?4 started_at, ?5 expires_at, ?6 expires_boot, ?7 boot_id, ?8 ttl_us, ?9 about.

-- step: read
SELECT id, owner, token, started_at, seen_at, expires_at, expires_boot, boot_id, ttl_us, draining, about
FROM onceward_session
WHERE id = ?1

-- step: insert
INSERT INTO onceward_session (
    id, owner, token, started_at, seen_at, expires_at, expires_boot, boot_id, ttl_us, draining, about
) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, 0, ?9)
