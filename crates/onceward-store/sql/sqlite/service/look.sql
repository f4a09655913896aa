-- service.look: what the next step of a runner is decided from. The lease is read by lease.lookup.
--
-- service  ?1 namespace, ?2 name. By the primary key.
-- runners  ?1 how they say that they run it. Sessions are few.
-- terms    ?1 namespace, ?2 service, ?3 at most, ?4 due, or recorded as missed, until then; the newest cycle first. By the primary key.
-- asked    the same of those that somebody has asked for, ?5 from that cycle on.
-- running  ?1 namespace, ?2 service. All that run. By onceward_term_running.

-- step: service
SELECT version, setting FROM onceward_service WHERE namespace = ?1 AND name = ?2

-- step: runners
SELECT id, owner, token, started_at, seen_at, expires_at, expires_boot, boot_id, ttl_us, draining, about
FROM onceward_session
WHERE instr(about, ?1) > 0

-- step: terms
SELECT cycle, part, due_at, cycles, session, owner, token, started_at, ended_at, outcome, reason
FROM onceward_term
WHERE namespace = ?1 AND service = ?2 AND part NOT GLOB 'asked-*' AND due_at <= ?4
    AND (outcome <> 'missed' OR started_at <= ?4)
ORDER BY cycle DESC, part DESC
LIMIT ?3

-- step: asked
SELECT cycle, part, due_at, cycles, session, owner, token, started_at, ended_at, outcome, reason
FROM onceward_term
WHERE namespace = ?1 AND service = ?2 AND cycle >= ?5 AND part GLOB 'asked-*' AND due_at <= ?4
ORDER BY cycle DESC, part DESC
LIMIT ?3

-- step: running
SELECT cycle, part, due_at, cycles, session, owner, token, started_at, ended_at, outcome, reason
FROM onceward_term
WHERE namespace = ?1 AND service = ?2 AND outcome = 'running'
